"""The command that runs the studies of the baselines: it finds each, hands it its folder, and refuses unknown names."""

import importlib

import pytest

from benchmarks.baselines.__main__ import main, names
from nettrim import baselines


def test_every_method_has_a_study_which_the_command_runs(monkeypatch, tmp_path):
    assert set(names()) >= set(baselines.available()) - {"hptd"}  # which is in the study of han
    told = []
    for name in names():
        study = importlib.import_module(f"benchmarks.baselines.{name}")
        assert f"python -m benchmarks.baselines.{name}" in study.__doc__ and "minutes" in study.__doc__
        monkeypatch.setattr(study, "main", lambda given, name=name: told.append((name, given)))
    main(["--networks", str(tmp_path)])
    assert told == [(name, ["--networks", str(tmp_path)]) for name in names()]
    told.clear()
    main(["lottery"])
    assert told == [("lottery", [])]


def test_unknown_studies_are_refused(capsys):
    with pytest.raises(SystemExit):
        main(["magic"])
    assert "no study is called 'magic'; there are " in capsys.readouterr().err


@pytest.mark.parametrize("name", names())
def test_every_study_takes_the_folder_that_it_is_handed(name, capsys):
    with pytest.raises(SystemExit) as left:
        importlib.import_module(f"benchmarks.baselines.{name}").main(["--networks", "x", "--help"])
    assert left.value.code == 0 and "--networks" in capsys.readouterr().out
