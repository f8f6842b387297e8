"""One process, one framework, chosen once."""

import pytest

pytestmark = pytest.mark.once

REPORT = "import fastprompt; print('\\nBACKEND', fastprompt.backend())"


def reported(done):
    return [line.split()[1] for line in done.stdout.splitlines() if line.startswith("BACKEND")]


@pytest.mark.parametrize("name", ["torch", "paddle", "jittor"])
def test_the_environment_variable_chooses(run_python, name):
    assert reported(run_python(name, "-c", REPORT)) == [name]


def test_set_backend_overrides_the_environment_variable(run_python):
    code = "import fastprompt; fastprompt.set_backend('paddle'); " + REPORT
    assert reported(run_python("torch", "-c", code)) == ["paddle"]


def test_without_a_word_the_imported_framework_counts(run_python):
    assert reported(run_python(None, "-c", "import paddle; " + REPORT)) == ["paddle"]


def test_torch_beside_transformers_does_not_count(run_python):
    code = "import sys, types; import paddle; sys.modules['transformers'] = types.ModuleType('transformers'); "
    assert reported(run_python(None, "-c", code + "sys.modules['torch'] = types.ModuleType('torch'); " + REPORT)) == [
        "paddle"
    ]


def test_without_anything_torch_comes_first(run_python):
    assert reported(run_python(None, "-c", REPORT)) == ["torch"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("fastprompt.set_backend('tensorflow')", "choose one of torch, paddle, jittor"),
        ("fastprompt.set_backend('torch'); fastprompt.set_backend('paddle')", "already runs on torch"),
        (
            "import sys; sys.modules['paddle'] = None; import importlib.util as u; found = u.find_spec; "
            "u.find_spec = lambda n, *a: None if n == 'paddle' else found(n, *a); del sys.modules['paddle']; "
            "fastprompt.set_backend('paddle')",
            "pip install 'fastprompt[paddle]'",
        ),
    ],
)
def test_a_wrong_choice_says_what_to_do(run_python, code, message):
    done = run_python(None, "-c", "import fastprompt; " + code, check=False)
    assert done.returncode != 0
    assert message in done.stderr.splitlines()[-1]


def test_an_unknown_name_in_the_environment_is_named(run_python):
    done = run_python("mxnet", "-c", REPORT, check=False)
    assert "FASTNLP_BACKEND names the framework 'mxnet'" in done.stderr
