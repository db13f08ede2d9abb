"""Who may not have FUSE is told so, and the folder is kept in step instead; who may is not misled."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobfs.errors import FuseUnavailable
from jobfs.fuse.mounting import check_access


def test_a_helper_that_failed_where_the_device_may_not_be_opened_means_that_there_is_no_fuse(tmp_path: Path) -> None:
    with pytest.raises(FuseUnavailable, match="may not be opened"):
        check_access(tmp_path / "fuse")


def test_a_helper_that_failed_where_the_device_can_be_opened_has_another_reason(tmp_path: Path) -> None:
    (tmp_path / "fuse").touch()
    check_access(tmp_path / "fuse")
