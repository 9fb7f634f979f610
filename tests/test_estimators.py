"""The one door: what a pickle or a skops file may bring in, and that nothing else gets anywhere."""

import bz2
import collections
import functools
import gzip
import importlib
import io
import json
import lzma
import operator
import os
import pickle
import pickletools
import subprocess
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn.base
import skops.io
from conftest import ROOT, Project
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import LinearRegression
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import RobustScaler, StandardScaler

from fxhelpers import ModelRegistry
from fxhelpers.bundles import load_bundle, load_estimator, select_by_name
from fxhelpers.bundles._bundle import dump_estimator
from fxhelpers.errors import BundleError, ParamsError, UntrustedBundleError
from fxhelpers.foresightx import _checkout as foreign
from fxhelpers.foresightx import _child as child
from fxhelpers.foresightx import convert
from fxhelpers.params import BundlesParams, PathsParams

ROWS = np.random.default_rng(0).normal(size=(60, 3))


@pytest.fixture(scope="module")
def model() -> MLPRegressor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MLPRegressor(hidden_layer_sizes=(4,), max_iter=3, random_state=1).fit(ROWS, ROWS[:, 0])


def ask(files: list[bytes], trusted: tuple[str, ...] = ()) -> tuple[list[dict[str, Any]], bytes]:
    """Send many files to one child."""
    request = {"sizes": [len(f) for f in files], "trusted": trusted, "unpacked": 2**26, "megabytes": 512, "seconds": 30}
    return foreign._run_child(json.dumps(request).encode() + b"\n" + b"".join(files), "many")


def as_joblib(value: object, compress: object = 0) -> bytes:
    out = io.BytesIO()
    joblib.dump(value, out, compress=compress)
    return out.getvalue()


def test_whatever_wrote_the_pickle_the_numbers_are_the_same_to_the_last_bit(model: MLPRegressor) -> None:
    whole = pickle.dumps(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        target = TransformedTargetRegressor(model, transformer=StandardScaler()).fit(ROWS, ROWS[:, 0])
        pipeline = make_pipeline(StandardScaler(), clone(model)).fit(ROWS, ROWS[:, 0])
    files = {
        **{f"protocol {protocol}": pickle.dumps(model, protocol) for protocol in range(6)},
        **{f"joblib {how}": as_joblib(model, how) for how in (0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3))},
        **{pack.__module__: pack(whole) for pack in (gzip.compress, bz2.compress, lzma.compress)},
        "zlib": zlib.compress(whole),
        "target": pickle.dumps(target),
        "pipeline": pickle.dumps(pipeline),
        "scaler": pickle.dumps(StandardScaler().fit(ROWS)),
    }
    told, body = ask(list(files.values()))
    for name, answer in zip(files, told, strict=True):
        assert "size" in answer, (name, answer)
        content, body = body[: answer["size"]], body[answer["size"] :]
        estimator = load_estimator(content, name)
        if name not in {"target", "pipeline", "scaler"}:
            assert estimator.predict(ROWS).tobytes() == model.predict(ROWS).tobytes(), name


class Calls:
    """Pickles as a call of anything with anything."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def asks_for(module: str, name: str, argument: str = "touch executed") -> bytes:
    """Pickle a call of a global that need not exist here."""
    return (
        b"\x80\x04\x8c"
        + bytes([len(module)])
        + module.encode()
        + b"\x8c"
        + bytes([len(name)])
        + name.encode()
        + (b"\x93\x8c" + bytes([len(argument)]) + argument.encode() + b"\x85R.")
    )


def attacks(model: MLPRegressor) -> dict[str, bytes]:
    """Return pickles that would run a command, by the global that has to be named."""
    hidden = pickle.loads(pickle.dumps(model))  # noqa: S301 (written here)
    hidden.learning_rate = Calls(os.system, "touch executed")  # deep in an honest model
    objects = np.empty(1, dtype=object)
    objects[0] = Calls(eval, "open('executed', 'w')")
    evil = np.empty(1, dtype=object)
    evil[0] = Calls(exec, "open('executed', 'w')")
    return {
        "posix.system": pickle.dumps(hidden),
        "builtins.eval": as_joblib(objects),  # which joblib reads as a pickle of its own
        "builtins.exec": pickle.dumps(evil),
        "__builtin__.eval": pickle.dumps(Calls(eval, "open('executed', 'w')"), 0),
        "subprocess.Popen": pickle.dumps(Calls(subprocess.Popen, ["touch", "executed"])),
        "functools.partial": pickle.dumps(Calls(functools.partial(os.system, "touch executed"))),
        "importlib.import_module": pickle.dumps(Calls(importlib.import_module, "antigravity")),
        "operator.methodcaller": pickle.dumps(Calls(operator.methodcaller, "system", "touch executed")),
        "collections.OrderedDict": pickle.dumps(collections.OrderedDict(a=Calls(os.system, "touch executed"))),
        "numpy.f2py.crackfortran.eval": asks_for("numpy.f2py.crackfortran", "eval"),
        "numpy.testing._private.utils.runstring": asks_for("numpy.testing._private.utils", "runstring"),
        "numpy.load": asks_for("numpy", "load"),
        "numpy.dtype.__init__": asks_for("numpy", "dtype.__init__"),
        "numpy.core.multiarray._reconstruct.__class__": asks_for("numpy.core.multiarray", "_reconstruct.__class__"),
        "sklearn.neural_network._multilayer_perceptron.MLPRegressor.fit": asks_for(
            "sklearn.neural_network._multilayer_perceptron", "MLPRegressor.fit"
        ),
        "sklearn.neural_network._multilayer_perceptron.np.load": asks_for(
            "sklearn.neural_network._multilayer_perceptron", "np.load"
        ),
        "sklearn.neural_network._multilayer_perceptron.np": asks_for("sklearn.neural_network._multilayer_perceptron", "np"),
        "joblib.load": asks_for("joblib", "load"),
        "joblib.numpy_pickle.NDArrayWrapper": asks_for("joblib.numpy_pickle", "NDArrayWrapper"),
        "pickle.loads": asks_for("pickle", "loads"),
        "os.system": b"cos\nsystem\n(S'touch executed'\ntR.",
        "nt.system": b"(S'touch executed'\ninnt\nsystem\n.".replace(b"innt", b"int"),
        "__main__.Model": b"c__main__\nModel\n.",
        "copyreg.add_extension": asks_for("copyreg", "add_extension"),
        "_codecs.encode": asks_for("_codecs", "encode").replace(b"\x85R", b"\x8c\x03zip\x86R"),
        "pip.main": asks_for("pip", "main"),
    }


def test_no_attack_is_executed_and_each_is_named(model: MLPRegressor, tmp_path: Path) -> None:
    corpus = attacks(model)
    packed = {f"{name} packed": gzip.compress(content) for name, content in list(corpus.items())[:3]}
    told, _ = ask([*corpus.values(), *packed.values()])
    for name, answer in zip([*corpus, *packed], told, strict=True):
        assert answer.get("refused", "").startswith(name.removesuffix(" packed")), (name, answer)
    assert not (tmp_path / "executed").exists()
    with pytest.raises(UntrustedBundleError, match=r"x.pkl: requires posix.system, which neither.*bundles: trusted_types"):
        convert({Path("x.pkl"): corpus["posix.system"]})


def test_what_is_no_model_is_named(model: MLPRegressor) -> None:
    whole = pickle.dumps(model)
    unlike = pickle.loads(whole)  # noqa: S301 (written here)
    unlike.coefs_ = unlike.coefs_[:1]
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    files = {
        "EOFError": b"",
        "KeyError": b"\xffnot a pickle",
        "pop from": b"\x80\x04.",
        "exhausted": whole[:-20],
        "something follows": whole + b"more",
        "holds dict": pickle.dumps({"a": 1}),
        "holds list": pickle.dumps(deep),
        "holds type": pickle.dumps(StandardScaler),
        "holds StandardScaler": pickle.dumps(StandardScaler()),
        "end too early": gzip.compress(whole)[:-30],
        "unpacks to more": gzip.compress(bytes(2**27)),
        "lz4 is not supported": b"\x04\x22\x4d\x18" + whole,
        "more than 512 MB of memory": pickle.dumps(Calls(np.ndarray, (10**11,))),
        "IndexError": pickle.dumps(unlike),
        "persistent id": b"\x80\x04\x8c\x01xQ.",
        "unregistered extension": b"\x80\x02\x82\x01.",
    }
    told, _ = ask(list(files.values()))
    for what, answer in zip(files, told, strict=True):
        assert what in answer["broken"], (what, answer)
    with pytest.raises(BundleError, match=r"y.pkl: not a complete pickle of a model \(3 bytes\)"):
        convert({Path("y.pkl"): b"\x80\x04."})


def test_even_code_that_runs_in_the_child_gets_nowhere(tmp_path: Path) -> None:
    """Classes that nobody may trust, trusted all the same: no process, no socket, no file."""
    trusted = ("subprocess.Popen", "socket.socket", "_io.FileIO")
    calls = [
        asks_for("subprocess", "Popen", "touch"),
        pickletools.optimize(b"\x80\x04\x8c\x06socket\x8c\x06socket\x93)R."),
        asks_for("_io", "FileIO", str(tmp_path / "params.yaml")),
    ]
    told, _ = ask(calls, trusted)
    for answer in told:
        assert any(word in answer["broken"] for word in ("Too many open files", "temporarily unavailable")), answer


def test_the_child_takes_nothing_from_the_environment(
    model: MLPRegressor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sklearn.py").write_text("open('/dev/null/executed')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "sklearn.py"))
    assert convert({Path("x.pkl"): pickle.dumps(model)})[Path("x.pkl")].versions == ()


def test_a_child_that_takes_too_long_is_ended(model: MLPRegressor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "SECONDS", 0.2)
    with pytest.raises(BundleError, match=r"x.pkl: reading took more than 0.2 s and was stopped; nothing was loaded"):
        convert({Path("x.pkl"): pickle.dumps(model)})


def test_a_flipped_bit_is_an_answer_whatever_it_hits(model: MLPRegressor) -> None:
    known, rng = child.known_objects([]), np.random.default_rng(0)
    request = {"unpacked": 2**20, "trusted": [], "megabytes": 512}
    for whole in (pickle.dumps(model), as_joblib(model)):
        for position in rng.integers(0, len(whole), 60):
            bad = bytearray(whole)
            bad[position] ^= 1 << int(rng.integers(8))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                _, answer = child.convert_file(bytes(bad), known, request)
            assert len(answer.keys() & {"size", "refused", "broken"}) == 1


def test_another_scikit_learn_is_warned_about_by_name(
    model: MLPRegressor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sklearn.base, "__version__", "1.2.2")
        content = pickle.dumps(model)
    assert convert({Path("old.pkl"): content})[Path("old.pkl")].versions == ("1.2.2",)
    assert f"old.pkl was pickled by scikit-learn 1.2.2, installed is {sklearn.__version__}" in caplog.text


@pytest.mark.parametrize(
    ("loader", "name"),
    [
        ("FunctionNode", "posix.system"),
        ("FunctionNode", "scipy.special._basic.comb"),  # which skops trusts
        ("MethodNode", "sklearn.neural_network._multilayer_perceptron.MLPRegressor"),
        ("OperatorFuncNode", "operator.methodcaller"),
        ("PartialNode", "functools.partial"),
        ("TypeNode", "posix.system"),
        ("ObjectNode", "sklearn.linear_model._base.LinearRegression"),
        ("ObjectNode", "subprocess.Popen"),
        ("JsonNode", "builtins.eval"),
        ("ReduceNode", "numpy.random.mtrand.RandomState"),
    ],
)
def test_a_skops_file_is_read_by_our_list_and_not_by_its_own(model: MLPRegressor, loader: str, name: str) -> None:
    content = dump_estimator(model)
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        parts = {entry: file.read(entry) for entry in file.namelist()}
    schema = json.loads(parts["schema.json"])
    module, _, kind = name.rpartition(".")
    schema["content"]["content"]["verbose"] = {
        "__loader__": loader,
        "__module__": module,
        "__class__": kind,
        "content": {"module_path": module, "function": kind, "attrs": "touch executed"},
        "__id__": 1,
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for entry, part in parts.items():
            file.writestr(entry, json.dumps(schema) if entry == "schema.json" else part)
    with pytest.raises(UntrustedBundleError, match=rf"x.skops: requires {name} \(as {loader}\), which no model of ours"):
        load_estimator(out.getvalue(), "x.skops")


def test_a_skops_bomb_and_another_estimator_are_refused() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file, file.open("schema.json", "w") as entry:
        for _ in range(600):
            entry.write(bytes(2**20))
    with pytest.raises(UntrustedBundleError, match="unpacks to 600 MB, more than the limit"):
        load_estimator(out.getvalue(), "x.skops")
    with pytest.raises(UntrustedBundleError, match="LinearRegression"):
        load_estimator(skops.io.dumps(LinearRegression().fit(ROWS, ROWS[:, 0])), "x.skops")


def test_a_version_of_thousands_of_features_is_not_too_big_for_its_own_reader() -> None:
    names = [f"feature_{number}" for number in range(3000)]
    rows = pd.DataFrame(np.random.default_rng(0).normal(size=(3, len(names))), columns=names)
    scaler = StandardScaler().fit(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MLPRegressor(hidden_layer_sizes=(1,), max_iter=1).fit(scaler.transform(rows), rows["feature_0"])
    pipeline = select_by_name(make_pipeline(scaler, model), names)
    assert load_estimator(dump_estimator(pipeline), "wide").predict(rows).tolist() == pipeline.predict(rows).tolist()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("builtins.eval", "comes with Python and could run anything"),
        ("os.system", "comes with Python"),
        ("subprocess.Popen", "comes with Python"),
        ("sklearn.utils.shuffle", "is a function; only classes can be trusted"),
        ("sklearn.nowhere.Scaler", "cannot be imported"),
        ("sklearn.preprocessing.RobustScaler", r"is named sklearn.preprocessing._data.RobustScaler in pickles; list that name"),
        ("sklearn.*", "is not the full name of a class"),
        ("RobustScaler", "is not the full name of a class"),
    ],
)
def test_only_exact_names_of_classes_can_be_trusted(project: Project, name: str, why: str) -> None:
    project.settings["bundles"]["trusted_types"] = [name]
    with pytest.raises(ParamsError, match=rf"params.yaml: bundles.trusted_types: .*{why}"):
        project.registry()


def test_a_trusted_type_is_taken_where_params_yaml_lists_it_and_nowhere_else(
    project: Project, foresightx: Callable[..., Path]
) -> None:
    path = foresightx()
    name = "sklearn.preprocessing._data.RobustScaler"
    scaler = RobustScaler().fit(np.random.default_rng(0).normal(size=(50, 8)))
    scaler_path = path.with_name(path.name.replace("mlp_model_", "mlp_scaler_"))
    scaler_path.write_bytes(pickle.dumps(scaler))
    with pytest.raises(UntrustedBundleError, match=f"{scaler_path.name}: requires {name}"):
        ModelRegistry().load_model_info(model_path=path)
    trusting = project.registry(bundles={"trusted_types": [name]})
    bundle = trusting.load_model_info(model_path=path)
    np.testing.assert_array_equal(bundle.scaler_object.transform(np.ones((1, 8))), scaler.transform(np.ones((1, 8))))
    trusting.register_model(bundle, stage="Production")
    champion = trusting.load_champion("TATAMOTORS.BO")
    assert champion is not None
    row = pd.DataFrame(np.ones((1, 8)), columns=bundle.feature_names)
    assert champion.load_again().predict(row) == champion.pipeline.predict(row)
    with pytest.raises(UntrustedBundleError, match=f"requires {name}"):  # whatever its MLmodel file says
        project.registry(bundles={"trusted_types": []}).load_champion("TATAMOTORS.BO")


def test_only_what_was_converted_is_stored(project: Project, foresightx: Callable[..., Path]) -> None:
    registry = ModelRegistry()
    registry.run_registration_pipeline(model_path=foresightx(stamp="20251220_034123", timestamp="20251220_034123"))
    stored = [path.name for path in (project.folder / "outputs" / "registry").rglob("*") if path.is_file()]
    assert "mlp_scaler_TATAMOTORS.BO_20251220_034123.skops" in stored
    assert not [name for name in stored if ".pkl" in name]


@pytest.mark.parametrize("ending", [".joblib", ".pkl.gz", ".pickle"])
def test_joblib_and_compressed_files_are_found(foresightx: Callable[..., Path], project: Project, ending: str) -> None:
    path = foresightx()
    pack = {".pkl.gz": gzip.compress, ".pickle": bytes, ".joblib": lambda content: as_joblib(pickle.loads(content), 3)}[ending]  # noqa: S301
    for old in list(path.parent.glob("*.pkl")):
        old.with_name(old.name.removesuffix(".pkl") + ending).write_bytes(pack(old.read_bytes()))
        old.unlink()
    root = path.parent.parent
    folders = {name: root / name for name in ("models", "metadata", "results")}
    assert load_bundle(PathsParams(**folders), symbol="TATAMOTORS.BO").features_count == 8


@pytest.mark.parametrize(
    "which", ["models/mlp_model_{}.pkl", "metadata/mlp_model_stats_{}.json", "results/evaluation_metrics_{}.json"]
)
def test_a_file_that_is_too_big_is_not_read(foresightx: Callable[..., Path], which: str) -> None:
    path = foresightx()
    big = path.parent.parent / which.format("TATAMOTORS.BO")
    with big.open("ab") as file:
        file.truncate(2**20 + 1)
    with pytest.raises(BundleError, match=rf"{big.name}: more than 1 MB, the limit of bundles.max_megabytes"):
        load_bundle(PathsParams(), model_path=path, rules=BundlesParams(max_megabytes=1))


def test_the_child_needs_nothing_of_ours() -> None:
    text = (ROOT / "fxhelpers" / "foresightx" / "_child.py").read_text()
    assert "import fxhelpers" not in text
    assert "from fxhelpers" not in text
