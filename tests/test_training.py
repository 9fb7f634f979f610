import numpy as np
import pandas as pd
import pytest
from sklearn.compose import TransformedTargetRegressor

from fxhelpers import load_prices, train_model
from fxhelpers.errors import ParamsError, PriceDataError
from fxhelpers.params import MlpParams, PricesParams, TrainingParams
from fxhelpers.training import TrainedModel, split_windows, supervised

QUICK = TrainingParams(
    refit=False, models={"regularised": MlpParams(hidden_layer_sizes=[4], max_iter=30, candidates={"alpha": [1.0, 100.0]})}
)
PRICES = load_prices("AAPL", PricesParams())


def forecasts(trained: TrainedModel, features: pd.DataFrame) -> np.ndarray:
    return np.asarray(trained.model.predict(trained.scaler.transform(features)))


def test_the_test_days_are_never_looked_at() -> None:
    """Scramble every price of the test window: the model is the same to the last bit."""
    features, _ = supervised(PRICES)
    test = features.index[split_windows(features.index, QUICK)["test"]]
    scrambled = PRICES.copy()
    rng = np.random.default_rng(0)
    later = scrambled.index >= test[0]
    scrambled.loc[later, ["Open", "High", "Low", "Close"]] *= rng.uniform(0.5, 2, (int(later.sum()), 1))
    one, two = (train_model("AAPL", prices, QUICK) for prices in (PRICES, scrambled))
    days = features.iloc[:500]
    np.testing.assert_array_equal(forecasts(one, days), forecasts(two, days))
    pd.testing.assert_frame_equal(one.candidates, two.candidates)


def test_the_scaler_has_seen_training_days_only() -> None:
    trained = train_model("AAPL", PRICES, QUICK)
    features, _ = supervised(PRICES)
    window = trained.metadata["windows"]["training"]
    inside = features.loc[window["first_day"] : window["last_day"]]
    np.testing.assert_allclose(trained.scaler.mean_, inside.mean().to_numpy(), rtol=1e-5)  # prices are kept in single precision
    assert len(inside) == window["days"]


def test_the_candidate_with_the_least_validation_error_is_kept() -> None:
    trained = train_model("AAPL", PRICES, QUICK)
    assert trained.candidates["val_rmse"].is_monotonic_increasing
    assert trained.metadata["config"]["alpha"] == trained.candidates.loc[0, "alpha"]
    assert trained.metadata["metrics"]["val_rmse"] == trained.candidates.loc[0, "val_rmse"]


def test_the_target_is_standardised_unless_the_original_asks_for_the_contrary() -> None:
    assert isinstance(train_model("AAPL", PRICES, QUICK).model, TransformedTargetRegressor)
    raw = train_model("AAPL", PRICES, QUICK, overrides={"standardise_target": False})
    assert not isinstance(raw.model, TransformedTargetRegressor)


def test_overrides_replace_settings_and_candidates() -> None:
    trained = train_model("AAPL", PRICES, QUICK, overrides={"alpha": 7.0, "hidden_layer_sizes": [3, 2]})
    assert trained.metadata["config"]["alpha"] == 7.0
    assert trained.metadata["architecture"] == [3, 2]
    assert len(trained.candidates) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "regularized"}, "'regularized' is not defined .did you mean 'regularised'"),
        ({"overrides": {"alfa": 1}}, "overrides: alfa: unknown key; the nearest known one is 'alpha'"),
        ({"overrides": {"alpha": -1}}, "overrides: alpha: .*greater than or equal to 0, found -1"),
        ({"overrides": {"solver": "sgd", "learning_rate_init": 1e30}}, "cannot be fitted with .*non-finite"),
    ],
)
def test_wrong_settings_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        train_model("AAPL", PRICES, QUICK, **options)  # type: ignore[arg-type]


def test_a_share_that_never_moves_is_refused() -> None:
    still = PRICES.assign(Open=10.0, High=10.0, Low=10.0, Close=10.0)
    with pytest.raises(PriceDataError, match="AAPL: the close does not change on any training day"):
        train_model("AAPL", still, QUICK)


def test_a_window_with_too_few_days_is_refused() -> None:
    with pytest.raises(PriceDataError, match="the validation window would hold 13 of 301 days"):
        train_model("AAPL", PRICES.iloc[:501], TrainingParams(refit=False, validation_size=0.05))
