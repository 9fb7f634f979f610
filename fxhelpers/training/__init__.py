"""Training by a recipe: what serves, fitted on all days, with the forecasts that its recipe would have made of earlier ones."""

from fxhelpers.training._extra import chosen_model, join_extra, read_extra, recipe_columns, taken_names
from fxhelpers.training._fitting import Fit, fit_recipe
from fxhelpers.training._rolling import Block, Origin, Rolling, check_fit, check_rolling, first_days, fit_blocks, roll
from fxhelpers.training._training import TrainedModel, span_of, split_windows, supervised, train_model
