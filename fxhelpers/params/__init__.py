"""``params.yaml`` and the environment, read and checked in one place.

Nothing else in the package reads YAML or environment variables.
"""

from fxhelpers.params._input import (
    HIDDEN,
    MODEL_PREFIX,
    check_model_name,
    check_symbol,
    check_version,
    current_journal,
    current_record,
    current_runner,
    is_symbol,
    looks_secret,
    model_name,
    nearest,
    parse_day,
    read_written_yaml,
    safe_uri,
    unrecorded_shell,
    yaml_value,
)
from fxhelpers.params._models import (
    ESTIMATORS,
    HYPERPARAMETERS,
    LEFT_OUT,
    LOSSES,
    MODEL_PARTS,
    AnyModel,
    FeaturesParams,
    MlpParams,
    ModelParams,
    RegressorParams,
    estimator_name,
    extra_folder,
)
from fxhelpers.params._notify import KINDS, Address, Kind, NotifyParams, has_apprise
from fxhelpers.params._prices import PriceChecksParams, PricesParams
from fxhelpers.params._reading import (
    NO_TELEMETRY,
    Params,
    explain,
    find_params_file,
    known_secrets,
    load_params,
    try_gates,
    with_overrides,
)
from fxhelpers.params._sections import (
    STAGES,
    BundlesParams,
    GateParams,
    PathsParams,
    PromotionParams,
    RollingParams,
    TrainingParams,
    WatchParams,
)
