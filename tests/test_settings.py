import pytest

from dist_llm.config import Config
from dist_llm.errors import UserError
from dist_llm.settings import Settings, read_toml


def test_later_files_win_and_the_command_line_wins_over_all(tmp_path):
    for name, dim in (("a", 24), ("b", 48)):
        (tmp_path / f"{name}.toml").write_text(
            f"[model]\ndim = {dim}\nn_layers = {len(name)}\n[optim]\nlr = {dim / 1000}\n"
        )
    files = tuple(str(tmp_path / f"{name}.toml") for name in "ab")
    config = Settings(files, {"optim": {"lr": 0.5}}).apply_to(Config().replace({"model": {"ffn_dim": 7}}))
    assert (config.model.dim, config.model.n_layers, config.model.ffn_dim, config.optim.lr) == (48, 1, 7, 0.5)


def test_a_shipped_configuration_goes_by_its_name_and_a_users_file_before_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Settings(("shakespeare_char_cpu",)).apply_to(Config()).model.dim == 104
    (tmp_path / "shakespeare_char_cpu").write_text("[model]\ndim = 24\n")
    assert Settings(("shakespeare_char_cpu",)).apply_to(Config()).model.dim == 24


def test_what_is_wrong_in_a_file_is_told_with_its_name(tmp_path):
    (tmp_path / "x.toml").write_text("[model]\ndimm = 3\n")
    with pytest.raises(UserError, match=r"x\.toml: unknown key model\.dimm; did you mean dim\?"):
        Settings((str(tmp_path / "x.toml"),)).apply_to(Config())


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(UserError, match="must divide n_heads"):
        Settings(overrides={"model": {"n_kv_heads": 4}}).apply_to(Config())


def test_files_that_are_no_toml(tmp_path):
    with pytest.raises(UserError, match=r"cannot read the configuration .*none.toml: No such file"):
        read_toml(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[model\n")
    with pytest.raises(UserError, match=r"bad.toml is not valid TOML: "):
        read_toml(tmp_path / "bad.toml")
