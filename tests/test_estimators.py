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
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import RobustScaler, StandardScaler
from sklearn.svm import SVR
from sklearn.tree._tree import Tree

from fxhelpers import ModelRegistry, load_params, write_bundle
from fxhelpers.bundles import load_bundle, select_by_name
from fxhelpers.errors import BundleError, ParamsError, UntrustedBundleError
from fxhelpers.estimators import TRUSTED_TYPES, build, check_size, dump_estimator, fit, load_estimator, regressor_in
from fxhelpers.foresightx import _checkout as foreign
from fxhelpers.foresightx import _child as child
from fxhelpers.foresightx import convert
from fxhelpers.params import MODEL_PARTS, BundlesParams, PathsParams

ROWS = np.random.default_rng(0).normal(size=(60, 3))


@pytest.fixture(scope="module")
def model() -> MLPRegressor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MLPRegressor(hidden_layer_sizes=(4,), max_iter=3, random_state=1).fit(ROWS, ROWS[:, 0])


TARGET = 0.01 * (ROWS[:, 0] + ROWS[:, 1] * ROWS[:, 2])
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    *(("MLPRegressor", {"max_iter": 3, "solver": solver}) for solver in ("adam", "sgd", "lbfgs")),
    *(("Ridge", more) for more in ({}, {"solver": "sag"}, {"solver": "lsqr"}, {"positive": True}, {"alpha": [1.0]})),
    *(("ElasticNet", {"alpha": 0.01, **more}) for more in ({}, {"selection": "random"}, {"precompute": True})),
    *(
        ("HistGradientBoostingRegressor", {"max_iter": 3, "min_samples_leaf": 5, **more})
        for more in (
            {},
            {"loss": "absolute_error"},
            {"loss": "quantile", "quantile": 0.3},
            {"early_stopping": True, "max_features": 0.5},
            {"interaction_cst": [[0, 1], [2]]},
            {"interaction_cst": "no_interactions", "monotonic_cst": [1, 0, -1]},
        )
    ),
    *(
        ("RandomForestRegressor", {"n_estimators": 3, **more})
        for more in (
            {},
            {"criterion": "absolute_error"},
            {"bootstrap": False},
            {"monotonic_cst": [1, 0, -1]},
            {"ccp_alpha": 1e-7},
        )
    ),
    *(("SVR", {"kernel": kernel}) for kernel in ("linear", "poly", "rbf", "sigmoid")),
    *(("KNeighborsRegressor", {"metric": metric}) for metric in ("minkowski", "euclidean", "manhattan", "cosine", "chebyshev")),
    ("KNeighborsRegressor", {"weights": "distance"}),
    ("KNeighborsRegressor", {"metric": "minkowski", "p": 3, "metric_params": {"w": [1, 2, 3]}}),
    ("KNeighborsRegressor", {"metric": "seuclidean", "metric_params": {"V": [1.0, 2.0, 3.0]}}),
    ("KNeighborsRegressor", {"metric": "mahalanobis", "metric_params": {"VI": np.eye(3).tolist()}}),
]


def fitted(estimator: str, more: dict[str, Any], *, random_state: int | None = 0) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit(build(estimator, more, random_state=random_state), ROWS, TARGET)  # type: ignore[arg-type]


@pytest.mark.parametrize(("estimator", "more"), SETTINGS)
def test_each_regressor_is_stored_as_what_the_list_of_types_allows(estimator: str, more: dict[str, Any]) -> None:
    for standardise in (True, False):
        model = fitted(estimator, {**more, "standardise_target": standardise})
        loaded = load_estimator(dump_estimator(model), "x.skops")
        assert loaded.predict(ROWS).tobytes() == model.predict(ROWS).tobytes()


@pytest.mark.usefixtures("thorough")
def test_pickles_of_each_regressor_give_the_same_numbers_to_the_last_bit() -> None:
    """Also those of notebooks, which set all kinds of seeds, and every core."""
    files, models = {}, {}
    for number, (estimator, more) in enumerate(SETTINGS):
        model = fitted(estimator, {**more, "standardise_target": number % 2 == 0}, random_state=number if number % 3 else None)
        for how in (*range(6), "joblib"):
            name = f"{estimator} {more} {how}"
            models[name] = model
            files[name] = as_joblib(model, 3) if how == "joblib" else pickle.dumps(model, how)
    forest = RandomForestRegressor(3, n_jobs=-1, random_state=np.random.RandomState(3)).fit(ROWS, TARGET)
    files["pipeline"] = pickle.dumps(make_pipeline(StandardScaler().fit(ROWS), forest))
    models["pipeline"] = make_pipeline(StandardScaler().fit(ROWS), clone(forest).set_params(n_jobs=1))
    models["pipeline"][-1].__dict__.update({**vars(forest), "n_jobs": 1})
    told, body = ask(list(files.values()))
    for name, answer in zip(files, told, strict=True):
        assert "size" in answer, (name, answer)
        content, body = body[: answer["size"]], body[answer["size"] :]
        estimator = load_estimator(content, name)
        assert estimator.predict(ROWS).tobytes() == models[name].predict(ROWS).tobytes(), name


def test_the_sandbox_takes_the_types_of_our_files_and_no_others() -> None:
    classes = {f"{module}.{name}" for module, name in child._PICKLED if module.startswith("sklearn.")}
    losses = {name for name in classes if name.startswith("sklearn._loss._loss.Cy")}
    ours = {name for name in MODEL_PARTS if "_column_transformer" not in name and "_function_transformer" not in name}
    assert classes - losses == {*ours, "sklearn.tree._tree.Tree"}
    assert set(child._TRUSTED) == set(TRUSTED_TYPES)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (KNeighborsRegressor(3), "sklearn.neighbors._kd_tree.newObj"),
        (KNeighborsRegressor(3, algorithm="ball_tree"), "sklearn.neighbors._ball_tree.newObj"),
        (HistGradientBoostingRegressor(max_iter=2, scoring="r2", early_stopping=True), "sklearn.metrics._scorer._Scorer"),
        (HistGradientBoostingRegressor(max_iter=2, interaction_cst=[{0}, {1, 2}]), "builtins.set"),
    ],
)
def test_what_a_regressor_could_be_made_of_besides_is_refused_by_name(model: Any, name: str) -> None:
    with pytest.raises(UntrustedBundleError, match=rf"x.pkl: requires {name}"):
        convert({Path("x.pkl"): pickle.dumps(model.fit(ROWS, TARGET), 3)})


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
        "builtins.bytes of something": asks_for("builtins", "bytes"),
        "sklearn.tree._tree.Tree.predict": asks_for("sklearn.tree._tree", "Tree.predict"),
        "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.np": asks_for(
            "sklearn.ensemble._hist_gradient_boosting.gradient_boosting", "np"
        ),
    }


def test_no_attack_is_executed_and_each_is_named(model: MLPRegressor, tmp_path: Path) -> None:
    corpus = attacks(model)
    packed = {f"{name} packed": gzip.compress(content) for name, content in list(corpus.items())[:3]}
    told, _ = ask([*corpus.values(), *packed.values()])
    for name, answer in zip([*corpus, *packed], told, strict=True):
        assert answer.get("refused", "").startswith(name.removesuffix(" packed")), (name, answer)
    assert not (tmp_path / "executed").exists()
    with pytest.raises(
        UntrustedBundleError, match=r"x.pkl: requires posix.system, which no scaler or regressor of ours.*bundles: trusted_types"
    ):
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
        ("ReduceNode", "sklearn.tree._tree.Tree"),
        ("ConstructorFromReduceNode", "sklearn.tree._tree.Tree"),
        ("ObjectNode", "sklearn.tree._tree.Tree"),
        ("TreeNode", "subprocess.Popen"),
        ("TreeNode", "sklearn.neighbors._kd_tree.KDTree"),
        ("LossNode", "subprocess.Popen"),
        ("LossNode", "sklearn._loss._loss.CyHuberLoss"),
        ("LossNode", "sklearn.tree._tree.Tree"),
        ("ObjectNode", "sklearn._loss._loss.CyPinballLoss"),
        ("RandomGeneratorNode", "numpy.random._generator.Generator"),
        ("ObjectNode", "sklearn.neighbors._kd_tree.KDTree"),
        ("SetNode", "builtins.set"),
    ],
)
def test_a_skops_file_is_read_by_our_list_and_not_by_its_own(model: MLPRegressor, loader: str, name: str) -> None:
    module, _, kind = name.rpartition(".")
    planted = {
        "__loader__": loader,
        "__module__": module,
        "__class__": kind,
        "content": {"module_path": module, "function": kind, "attrs": "touch executed"},
        "__reduce__": {"args": {}},
        "__id__": 1,
    }

    def plant(schema: dict[str, Any]) -> None:
        schema["content"]["content"]["verbose"] = planted

    with pytest.raises(UntrustedBundleError, match=rf"x.skops: requires {name} \(as {loader}\), which no model of ours"):
        load_estimator(edited(dump_estimator(model), plant), "x.skops")


def edited(content: bytes, edit: Callable[[dict[str, Any]], None]) -> bytes:
    """Change the schema of a skops file."""
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        parts = {entry: file.read(entry) for entry in file.namelist()}
    schema = json.loads(parts["schema.json"])
    edit(schema)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for entry, part in parts.items():
            file.writestr(entry, json.dumps(schema) if entry == "schema.json" else part)
    return out.getvalue()


def nodes_of(schema: object, loader: str) -> list[dict[str, Any]]:
    inner = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    here = [schema] if isinstance(schema, dict) and schema.get("__loader__") == loader else []
    return [*here, *(node for part in inner for node in nodes_of(part, loader))]


@pytest.mark.parametrize("where", ["args", "content"])
@pytest.mark.parametrize(
    ("loader", "estimator"), [("TreeNode", "RandomForestRegressor"), ("LossNode", "HistGradientBoostingRegressor")]
)
def test_what_a_constructor_is_called_with_is_read_by_the_list_too(loader: str, estimator: str, where: str) -> None:
    evil = {"__loader__": "FunctionNode", "__module__": "posix", "__class__": "system", "__id__": 1, "content": {}}

    def plant(schema: dict[str, Any]) -> None:
        for node in nodes_of(schema, loader):
            (node["__reduce__"] if where == "args" else node)[where] = {**evil}

    with pytest.raises(UntrustedBundleError, match=r"requires posix.system \(as FunctionNode\)"):
        load_estimator(edited(dump_estimator(fitted(estimator, {})), plant), "x.skops")


def test_a_tree_of_another_number_of_outputs_is_not_made() -> None:
    def plant(schema: dict[str, Any]) -> None:
        for node in nodes_of(schema, "TreeNode"):
            node["__reduce__"]["args"]["content"][2]["content"] = "-1"

    with pytest.raises(UntrustedBundleError, match=r"x.skops: .* tree of one output"):
        load_estimator(edited(dump_estimator(fitted("RandomForestRegressor", {"n_estimators": 2})), plant), "x.skops")


@pytest.mark.parametrize("hidden", [False, True])
def test_a_tree_is_made_for_one_output_or_not_at_all(hidden: bool) -> None:
    """A forest of two outputs, as scikit-learn itself can fit it; also where skops would take the number from another place."""
    forest = RandomForestRegressor(2, max_depth=2).fit(ROWS, ROWS[:, :2])

    def hide(schema: dict[str, Any]) -> None:
        for node in nodes_of(schema, "TreeNode") if hidden else ():
            node["__reduce__"]["args"]["content"][2]["content"] = "1"
        first = nodes_of(schema, "JsonNode")[0]
        for node in nodes_of(schema, "TreeNode") if hidden else ():
            first["__id__"], first["content"] = node["__reduce__"]["args"]["content"][2]["__id__"], "2"

    content = edited(skops.io.dumps(forest), hide)
    with pytest.raises(UntrustedBundleError, match=r"x.skops: .* tree of one output"):
        load_estimator(content, "x.skops")


@pytest.mark.parametrize(
    ("loader", "estimator", "arguments"),
    [
        ("TreeNode", "RandomForestRegressor", ["1e9", "[1]", "1"]),
        ("TreeNode", "RandomForestRegressor", ["3", "[1]", "1"]),
        ("TreeNode", "RandomForestRegressor", []),
        ("LossNode", "HistGradientBoostingRegressor", ['"touch executed"']),
    ],
)
def test_a_constructor_that_is_called_with_something_else_makes_nothing(
    loader: str, estimator: str, arguments: list[str]
) -> None:
    more = {"loss": "quantile", "quantile": 0.3} if loader == "LossNode" else {}

    def plant(schema: dict[str, Any]) -> None:
        json_nodes = [
            {"__loader__": "JsonNode", "__module__": "builtins", "__class__": "str", "content": text, "is_json": True}
            for text in arguments
        ]
        for node in nodes_of(schema, loader):
            node["__reduce__"]["args"]["content"] = json_nodes

    with pytest.raises(BundleError, match=r"x.skops: not a complete .skops file"):
        load_estimator(edited(dump_estimator(fitted(estimator, more)), plant), "x.skops")


def with_count(tree: dict[str, Any], count: int) -> None:
    tree["content"]["node_count"]["content"] = str(count)


@pytest.mark.parametrize("count", [-1, 0, 1])
def test_a_tree_with_more_nodes_than_it_says_is_refused(count: int) -> None:
    def plant(schema: dict[str, Any]) -> None:
        with_count(nodes_of(schema, "TreeNode")[0]["content"], count)

    content = edited(dump_estimator(fitted("RandomForestRegressor", {"n_estimators": 2})), plant)
    with pytest.raises(UntrustedBundleError, match=r"x.skops: the arrays of its DecisionTreeRegressor do not fit together"):
        load_estimator(content, "x.skops")


def with_tree(forest: RandomForestRegressor, width: int = 3, **changed: int) -> RandomForestRegressor:
    """Replace a tree of a forest by one whose node 1 is changed, which no day reaches, so that nothing would come of it."""
    old = forest.estimators_[0].tree_
    _, (_, classes, outputs), state = old.__reduce__()
    state["nodes"] = state["nodes"].copy()
    state["nodes"]["left_child"][0] = state["nodes"]["right_child"][0]
    for name, value in {"left_child": 2, "right_child": 2, "feature": 0, **changed}.items():
        state["nodes"][name][1] = value
    tree = Tree(width, classes, outputs)
    tree.__setstate__(state)
    forest.estimators_[0].tree_ = tree
    return forest


def with_node(boosting: HistGradientBoostingRegressor, **changed: int) -> HistGradientBoostingRegressor:
    """Change node 1 of a tree, which no day reaches."""
    nodes = boosting._predictors[0][0].nodes
    nodes["left"][0] = nodes["right"][0]
    for name, value in {"is_leaf": 0, "left": 2, "right": 2, "feature_idx": 0, **changed}.items():
        nodes[name][1] = value
    return boosting


def with_array(model: Any, **changed: Any) -> Any:
    vars(model).update(changed)
    return model


def with_categories(boosting: HistGradientBoostingRegressor) -> HistGradientBoostingRegressor:
    """Let every feature be one of categories, of which there are none."""
    with_array(boosting._bin_mapper, is_categorical_=np.ones(3), bin_thresholds_=[np.empty(0)] * 3)
    return boosting


BOOSTING = {"max_iter": 2, "min_samples_leaf": 5}


@pytest.mark.parametrize(
    ("estimator", "change"),
    [
        ("RandomForestRegressor", lambda m: with_tree(m, left_child=10**7)),
        ("RandomForestRegressor", lambda m: with_tree(m, right_child=-500_000)),
        ("RandomForestRegressor", lambda m: with_tree(m, left_child=0)),
        ("RandomForestRegressor", lambda m: with_tree(m, feature=3)),
        ("RandomForestRegressor", lambda m: with_tree(m, feature=-2)),
        ("RandomForestRegressor", lambda m: with_tree(m, 4)),
        ("RandomForestRegressor", lambda m: with_array(m, n_features_in_=4)),
        ("RandomForestRegressor", lambda m: with_array(m, estimators_=[SVR()])),
        ("RandomForestRegressor", lambda m: with_array(m.estimators_[0], n_features_in_="3") and m),
        ("HistGradientBoostingRegressor", lambda m: with_node(m, left=10**7)),
        ("HistGradientBoostingRegressor", lambda m: with_node(m, right=0)),
        ("HistGradientBoostingRegressor", lambda m: with_node(m, feature_idx=3)),
        ("HistGradientBoostingRegressor", lambda m: with_node(m, feature_idx=-1)),
        ("HistGradientBoostingRegressor", lambda m: with_node(m, is_categorical=1)),
        ("HistGradientBoostingRegressor", with_categories),
        ("HistGradientBoostingRegressor", lambda m: with_array(m, _bin_mapper=SVR())),
        ("HistGradientBoostingRegressor", lambda m: with_array(m, _n_features=4)),
        ("HistGradientBoostingRegressor", lambda m: with_array(m, n_features_in_=4)),
        ("HistGradientBoostingRegressor", lambda m: with_array(m, _predictors=[[SVR()]])),
        ("SVR", lambda m: with_array(m, _dual_coef_=np.hstack([m._dual_coef_, m._dual_coef_]))),
        ("SVR", lambda m: with_array(m, support_=np.tile(m.support_, 2))),
        ("SVR", lambda m: with_array(m, support_vectors_=np.hstack([m.support_vectors_, m.support_vectors_]))),
        ("SVR", lambda m: with_array(m, _intercept_=np.tile(m._intercept_, 2))),
        ("SVR", lambda m: with_array(m, _n_support=np.tile(m._n_support, 2))),
        ("SVR", lambda m: with_array(m, _probA=np.ones(1))),
        ("SVR", lambda m: with_array(m, kernel="precomputed")),
        ("SVR", lambda m: with_array(m, _impl="c_svc")),
        ("SVR", lambda m: with_array(m, _sparse=True)),
        ("SVR", lambda m: with_array(m, n_features_in_=4)),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused_before_they_forecast(estimator: str, change: Callable[..., Any]) -> None:
    model = fitted(
        estimator, {"RandomForestRegressor": {"n_estimators": 3}, "HistGradientBoostingRegressor": BOOSTING}.get(estimator, {})
    )
    assert load_estimator(dump_estimator(model), "x.skops").predict(ROWS).shape == (60,)
    changed = change(regressor_in(model))
    model.regressor_ = changed
    with pytest.raises(UntrustedBundleError, match=r"x.skops: the arrays of its \w+ do not fit together"):
        load_estimator(dump_estimator(model), "x.skops")


def test_a_model_that_is_too_big_is_refused_before_it_is_written(project: Project) -> None:
    content = dump_estimator(fitted("RandomForestRegressor", {"n_estimators": 100}))
    with pytest.raises(
        UntrustedBundleError,
        match=r"the model of AAPL: it unpacks to \d MB, more than 1 MB, the limit of bundles.max_megabytes; .*trees",
    ):
        check_size(content, "the model of AAPL", 2**20)
    rules = BundlesParams(max_megabytes=1)
    big, scaler = load_estimator(content, "x.skops"), StandardScaler().fit(ROWS)
    metadata = {"symbol": "AAPL", "feature_names": ["a", "b", "c"]}
    with pytest.raises(UntrustedBundleError, match=r"the model of AAPL: it unpacks to"):
        write_bundle(big, scaler, metadata, load_params().paths, rules=rules)
    assert not (project.folder / "outputs" / "models").exists()


def test_a_skops_bomb_and_another_estimator_are_refused() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file, file.open("schema.json", "w") as entry:
        for _ in range(600):
            entry.write(bytes(2**20))
    with pytest.raises(UntrustedBundleError, match=r"it unpacks to 600 MB, more than 64 MB, the limit of bundles.max_megabytes"):
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
