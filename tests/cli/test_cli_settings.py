"""Which server, and with which key."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobfs.errors import SettingsError
from jobfs.workspace.settings import Chosen, load

DEFAULT = "https://api.perstack.ai"


def key_file(folder: Path, text: str = "file-key\n", mode: int = 0o600) -> Path:
    path = folder / "api.key"
    path.write_text(text)
    path.chmod(mode)
    return path


def environment(folder: Path, **variables: str) -> dict[str, str]:
    return {"JOBFS_CONFIG_DIR": str(folder), **variables}


def with_profiles(folder: Path, text: str) -> Path:
    (folder / "config.toml").write_text(text)
    return folder


WORK = """
default = "work"
[profiles.work]
url = "https://work.example"
api-key-file = "api.key"
[profiles.bare]
url = "https://bare.example"
"""


def test_the_default_server_is_the_public_one(tmp_path: Path) -> None:
    found = load(Chosen(), environment(tmp_path, JOBFS_API_KEY="k"))
    assert (found.url, found.api_key, found.is_default_url) == (DEFAULT, "k", True)


def test_an_option_beats_the_environment_which_beats_the_profile(tmp_path: Path) -> None:
    with_profiles(tmp_path, WORK)
    key_file(tmp_path)
    by_profile = load(Chosen(), environment(tmp_path))
    by_environment = load(Chosen(), environment(tmp_path, JOBFS_URL="https://env.example", JOBFS_API_KEY="env-key"))
    by_option = load(
        Chosen(url="https://option.example", api_key_file=tmp_path / "api.key"),
        environment(tmp_path, JOBFS_URL="https://env.example", JOBFS_API_KEY="env-key"),
    )
    assert [(one.url, one.api_key) for one in (by_profile, by_environment, by_option)] == [
        ("https://work.example", "file-key"),
        ("https://env.example", "env-key"),
        ("https://option.example", "file-key"),
    ]


def test_the_second_key_variable_serves_where_the_first_is_not_set(tmp_path: Path) -> None:
    both = load(Chosen(), environment(tmp_path, JOBFS_API_KEY="first", PERSTACK_API_KEY="second"))
    one = load(Chosen(), environment(tmp_path, PERSTACK_API_KEY="second"))
    assert (both.api_key, one.api_key) == ("first", "second")


def test_the_system_key_comes_from_its_own_variable_only(tmp_path: Path) -> None:
    assert load(Chosen(), environment(tmp_path, JOBFS_API_KEY="k")).system_key is None
    assert load(Chosen(), environment(tmp_path, JOBFS_API_KEY="k", JOBFS_SYSTEM_KEY="s")).system_key == "s"


def test_a_profile_is_chosen_by_option_or_environment(tmp_path: Path) -> None:
    with_profiles(tmp_path, WORK)
    by_option = load(Chosen(profile="bare"), environment(tmp_path, JOBFS_API_KEY="k"))
    by_variable = load(Chosen(), environment(tmp_path, JOBFS_API_KEY="k", JOBFS_PROFILE="bare"))
    assert (by_option.url, by_variable.url) == ("https://bare.example", "https://bare.example")


def test_a_profiles_key_is_never_used_for_another_server(tmp_path: Path) -> None:
    with_profiles(tmp_path, WORK)
    key_file(tmp_path)
    with pytest.raises(SettingsError) as refused:
        load(Chosen(url="https://elsewhere.example"), environment(tmp_path))
    assert refused.value.cause == "the key of profile 'work' is not for the server https://elsewhere.example"


def test_no_key_at_all_says_where_to_put_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        load(Chosen(), environment(tmp_path))
    assert (refused.value.cause, refused.value.remedy) == (
        "there is no API key",
        "log in once: jobfs login; or set JOBFS_API_KEY, or name a file that holds the key with --api-key-file",
    )


@pytest.mark.parametrize(("mode", "warnings"), [(0o600, 0), (0o640, 1), (0o604, 1)])
def test_a_key_file_that_others_can_read_brings_a_warning(tmp_path: Path, mode: int, warnings: int) -> None:
    path = key_file(tmp_path, mode=mode)
    found = load(Chosen(api_key_file=path), environment(tmp_path))
    assert (found.api_key, len(found.warnings)) == ("file-key", warnings)


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_an_empty_key_file_is_refused(tmp_path: Path, text: str) -> None:
    path = key_file(tmp_path, text)
    with pytest.raises(SettingsError) as refused:
        load(Chosen(api_key_file=path), environment(tmp_path))
    assert refused.value.cause == f"the key file {path} is empty"


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        load(Chosen(api_key_file=tmp_path / "none"), environment(tmp_path))
    assert refused.value.cause == f"the key file {tmp_path / 'none'} cannot be read: No such file or directory"


@pytest.mark.parametrize(
    ("text", "profile", "cause"),
    [
        ("profiles = [", None, "cannot be read"),
        (WORK, "none", "has no profile 'none'"),
        ('[profiles.work]\nurl = "u"\napi-key = "secret"\n', "work", "api-key is not understood"),
        ("[profiles.work]\nurl = 3\n", "work", "url is not understood"),
    ],
)
def test_a_profile_that_cannot_be_used_is_named(tmp_path: Path, text: str, profile: str | None, cause: str) -> None:
    with_profiles(tmp_path, text)
    with pytest.raises(SettingsError) as refused:
        load(Chosen(profile=profile), environment(tmp_path, JOBFS_API_KEY="k"))
    assert cause in refused.value.cause
    assert "secret" not in refused.value.cause + refused.value.remedy


def test_settings_show_no_key_when_they_are_printed(tmp_path: Path) -> None:
    found = load(Chosen(), environment(tmp_path, JOBFS_API_KEY="first-secret", JOBFS_SYSTEM_KEY="second-secret"))
    assert "secret" not in repr(found)
