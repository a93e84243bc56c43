"""What root follows, opens, makes and gives away in directories of several kinds."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rollsafe._files.places import Looks, open_directory, open_file, place_of, places_of, resolved
from rollsafe.errors import NotOurs
from tests.support.scene import BYSTANDER, INTRUDER, Scene, as_user

Kind = Callable[[Path], None]


def of_second_user(directory: Path) -> None:
    """As the documentation of the workers' log directory says."""
    os.chown(directory, INTRUDER, INTRUDER)


def of_a_group(directory: Path) -> None:
    """Root's, shared by a group; an access control list looks like this too (acl(5))."""
    os.chown(directory, 0, INTRUDER)
    directory.chmod(0o2775)


def of_roots_group(directory: Path) -> None:
    """Root's, whose group may write; others may be in it, as on OpenShift."""
    directory.chmod(0o775)


def of_everybody(directory: Path) -> None:
    """Without the sticky bit."""
    directory.chmod(0o777)


def as_tmp(directory: Path) -> None:
    """With the sticky bit."""
    directory.chmod(0o1777)


SHARED: dict[str, Kind] = {
    "the second user's": of_second_user,
    "a group's": of_a_group,
    "of root's group": of_roots_group,
    "everybody's": of_everybody,
}


@pytest.fixture(params=SHARED)
def shared(scene: Scene, request: pytest.FixtureRequest) -> Path:
    """A directory that others may write, in one of root's."""
    directory = scene.top / "shared"
    directory.mkdir()
    SHARED[request.param](directory)
    return directory


@pytest.fixture
def sticky(scene: Scene) -> Path:
    """A directory like /tmp."""
    directory = scene.top / "sticky"
    directory.mkdir()
    as_tmp(directory)
    return directory


@pytest.fixture
def opened() -> Iterator[list[int]]:
    """Descriptors that are closed at the end; none other may be left."""
    before = set(os.listdir("/proc/self/fd"))
    descriptors: list[int] = []
    yield descriptors
    for descriptor in descriptors:
        os.close(descriptor)
    assert set(os.listdir("/proc/self/fd")) <= before


def test_links_are_followed_where_only_root_writes(scene: Scene) -> None:
    (scene.top / "volume" / "logs").mkdir(parents=True)
    (scene.top / "absolute").symlink_to(scene.top / "volume")
    (scene.top / "relative").symlink_to("volume/../volume/./logs")
    (scene.top / "chain").symlink_to("absolute/logs/")
    logs = str(scene.top / "volume" / "logs")
    for path in ("absolute/logs", "relative", "chain", "volume/logs/../logs"):
        assert resolved(f"{scene.top}/{path}") == os.path.realpath(f"{scene.top}/{path}") == logs
        with place_of(f"{scene.top}/{path}/app.log") as place:
            assert place.path == f"{logs}/app.log"
            assert place.settled
    assert resolved(f"{scene.top}/chain/missing/app.log") == f"{logs}/missing/app.log"
    assert resolved(str(scene.secret / "no directory")) == str(scene.secret / "no directory")


@pytest.mark.parametrize("whose", ["root's", "the second user's"])
@pytest.mark.parametrize("where", ["the last name", "on the way"])
def test_no_link_is_followed_where_others_write(
    scene: Scene, shared: Path, whose: str, where: str, opened: list[int]
) -> None:
    link = shared / "link"
    link.symlink_to(scene.secret if where == "the last name" else scene.etc)
    if whose != "root's":
        os.chown(link, INTRUDER, INTRUDER, follow_symlinks=False)
    path = str(link if where == "the last name" else link / "shadow")
    for use in (resolved, lambda path: opened.append(open_file(path, os.O_RDONLY))):
        with pytest.raises(OSError, match=r"symbolic link") as caught:
            use(path)
        assert caught.value.filename == str(link)
    assert not opened


def test_the_link_that_root_made_in_tmp_is_followed_and_no_other(scene: Scene, sticky: Path) -> None:
    ours, theirs = sticky / "ours", sticky / "theirs"
    ours.symlink_to(scene.etc)
    as_user(lambda: theirs.symlink_to(scene.etc))
    assert resolved(str(ours / "shadow")) == str(scene.secret)
    with pytest.raises(NotOurs, match="is a symbolic link in a directory that another user may write"):
        resolved(str(theirs / "shadow"))


def test_a_directory_of_root_in_one_of_another_user_is_not_settled(scene: Scene) -> None:
    inner = scene.logs / "inner"
    inner.mkdir()
    (inner / "link").symlink_to(scene.secret)
    with pytest.raises(NotOurs):
        resolved(str(inner / "link"))
    with place_of(str(inner / "app.log")) as place:
        assert not place.settled


def test_a_file_with_two_names_is_refused_where_others_write(scene: Scene, shared: Path, opened: list[int]) -> None:
    os.link(scene.secret, shared / "app.log")
    with pytest.raises(NotOurs, match=r"has 2 names \(hard links\).*remove this one"):
        open_file(str(shared / "app.log"), os.O_WRONLY)
    os.unlink(shared / "app.log")
    scene.assert_untouched()


def test_a_snapshot_by_hard_links_is_no_harm(scene: Scene, opened: list[int]) -> None:
    """`cp -al` of the log directory, by its owner or by root in its own."""
    live = scene.logs / "app.log"
    as_user(live.touch)
    as_user(lambda: os.link(live, live.with_name("snapshot")))
    opened.append(open_file(str(live), os.O_WRONLY))
    roots = scene.etc / "app.log"
    roots.touch()
    os.link(roots, roots.with_name("snapshot"))
    opened.append(open_file(str(roots), os.O_WRONLY))


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFSOCK])
def test_what_is_no_file_is_refused_at_once(shared: Path, kind: int, opened: list[int]) -> None:
    os.mknod(shared / "app.log", kind | 0o666)
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
        with pytest.raises(NotOurs, match="and no regular file; remove it"):
            open_file(str(shared / "app.log"), flags)


def test_a_file_of_another_user_in_tmp_is_not_opened_whatever_the_kernel_is_set_to(
    sticky: Path, opened: list[int]
) -> None:
    live = sticky / "app.log"
    as_user(lambda: live.write_text("planted\n"))
    live.chmod(0o666)
    with pytest.raises(NotOurs, match=f"belongs to user {INTRUDER}, who may have put it into this directory"):
        open_file(str(live), os.O_WRONLY)
    with place_of(str(live)) as place:
        opened.append(place.open(os.O_WRONLY, owner=INTRUDER))  # whom we have given it to
    os.chown(live, 0, 0)
    opened.append(open_file(str(live), os.O_WRONLY))


def test_a_directory_that_is_swapped_for_a_link_is_not_followed(scene: Scene) -> None:
    inner = scene.logs / "inner"
    as_user(inner.mkdir)
    with place_of(str(inner / "app.log")) as place, open_directory(str(inner)) as directory:
        as_user(lambda: inner.rename(scene.logs / "moved"))
        as_user(lambda: inner.symlink_to(scene.etc))
        os.close(place.create(os.O_WRONLY))
        assert os.listdir(scene.logs / "moved") == ["app.log"]
        assert os.path.samestat(os.fstat(directory), os.stat(scene.logs / "moved"))
    with pytest.raises(NotOurs):
        open_file(str(inner / "app.log"), os.O_WRONLY)
    scene.assert_untouched()


def test_two_names_of_one_directory_are_reached_by_one_walk(scene: Scene) -> None:
    with places_of(str(scene.logs / "one"), str(scene.logs / "two")) as (one, two):
        assert one.dir_fd == two.dir_fd
        assert (one.path, two.path) == (str(scene.logs / "one"), str(scene.logs / "two"))
    with places_of(str(scene.logs / "one"), str(scene.etc / "two")) as (one, two):
        assert one.dir_fd != two.dir_fd


def test_a_new_file_is_made_and_an_old_one_spared(scene: Scene, opened: list[int]) -> None:
    with place_of(str(scene.secret)) as place, pytest.raises(FileExistsError):
        place.create(os.O_WRONLY)
    with place_of(str(scene.logs / "new")) as place:
        opened.append(place.create(os.O_WRONLY, 0o600))
    status = os.fstat(opened[0])
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (0, 0o600)


@pytest.mark.parametrize(
    ("owner", "group", "mode", "expected"),
    [
        (0, 0, 0o755, (0, 0)),
        (INTRUDER, BYSTANDER, 0o755, (INTRUDER, BYSTANDER)),
        (0, INTRUDER, 0o775, (0, INTRUDER)),
        (0, INTRUDER, 0o755, (0, 0)),
    ],
)
def test_the_first_file_belongs_to_those_who_may_write_the_directory(
    scene: Scene, owner: int, group: int, mode: int, expected: tuple[int, int], opened: list[int]
) -> None:
    os.chown(scene.logs, owner, group)
    scene.logs.chmod(mode)
    with place_of(str(scene.logs / "new")) as place:
        opened.append(place.create(os.O_WRONLY, 0o640))
        place.looks().give_to(opened[0])
    status = (scene.logs / "new").stat()
    assert (status.st_uid, status.st_gid) == expected


def test_a_group_that_we_are_not_in_leaves_our_own_group_no_more_than_everybody(scene: Scene) -> None:
    path = scene.logs / "new"

    def make() -> None:
        with place_of(str(path)) as place:
            descriptor = place.create(os.O_WRONLY, 0o660)
            Looks(uid=0, gid=BYSTANDER, mode=0o664).give_to(descriptor)

    as_user(make)
    status = path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (INTRUDER, INTRUDER, 0o644)


def test_the_bits_that_run_a_file_as_its_owner_are_never_given(scene: Scene, opened: list[int]) -> None:
    live = scene.logs / "app.log"
    as_user(live.touch)
    os.chmod(live, 0o6777)
    from rollsafe._live.open_file import mode_of

    assert mode_of(live.stat()) == 0o777


class TestGift:
    """What root gives away."""

    def check(self, path: Path) -> None:
        """Raise NotOurs if it must not be given to the second user."""
        with place_of(str(path)) as place:
            place.check_gift(path.stat(), INTRUDER, INTRUDER)

    def test_any_file_of_its_own_directory(self, scene: Scene) -> None:
        path = scene.etc / "app.log"
        path.touch(0o600)
        self.check(path)

    def test_no_secret_that_others_may_have_moved_there(self, scene: Scene, shared: Path) -> None:
        path = shared / "app.log"
        path.touch()
        path.chmod(0o600)
        with pytest.raises(NotOurs, match=r"belongs to user 0 in a directory that another user may write"):
            self.check(path)
        path.chmod(0o604)
        self.check(path)

    def test_no_file_with_two_names(self, scene: Scene) -> None:
        path = scene.etc / "app.log"
        path.touch()
        os.link(path, scene.logs / "app.log")
        with pytest.raises(NotOurs, match="has 2 names"):
            self.check(path)

    def test_nothing_but_files(self, scene: Scene) -> None:
        with pytest.raises(NotOurs, match="is a directory"):
            self.check(scene.etc)
