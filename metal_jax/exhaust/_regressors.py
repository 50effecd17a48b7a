"""Regressors of scikit-learn on plain arrays, settings by cross-validation on the training set.

scikit-learn is imported when a regressor is asked for: the optional extra `sklearn`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

#: Fewer training networks than this, and every regressor predicts their mean.
MIN_ITEMS = 10
_NUM_FOLDS = 3


def fit_predict(
    name: str,
    inputs: np.ndarray,
    values: np.ndarray,
    others: np.ndarray,
    seed: int,
    *,
    weights: np.ndarray | float = 1.0,
) -> np.ndarray:
    """Fit one of `REGRESSORS` and predict.

    Inputs and values are scaled to mean 0 and standard deviation 1 by the training set's. The
    settings with the smallest mean absolute error in three folds of the training set are taken.

    Args:
        name: which.
        inputs: float64[r, f], of the training set.
        values: float64[r].
        others: float64[n, f], to predict.
        seed: of the folds and of the trees.
        weights: float64[f], by which the scaled inputs are multiplied.

    Returns:
        float64[n]; the mean of the values where they are constant, or where there are fewer than
        10 or no inputs.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    make, grid = REGRESSORS[name]
    center, spread = values.mean(), values.std()
    if len(values) < MIN_ITEMS or inputs.shape[1] == 0 or not spread > 0:
        return np.full(len(others), center)
    try:
        from sklearn.model_selection import GridSearchCV, KFold
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise ImportError(
            f"baseline {name!r} needs scikit-learn: pip install 'metal-jax[sklearn]'"
        ) from error
    mean, scale = inputs.mean(0), inputs.std(0)
    scale = np.where(scale > 0, scale, 1) / weights
    model = make(seed, inputs.shape[1])
    if grid:
        model = GridSearchCV(
            model,
            {key: list(options) for key, options in grid.items()},
            scoring="neg_mean_absolute_error",
            cv=KFold(_NUM_FOLDS, shuffle=True, random_state=seed),
        )
    # On so few items boosting's threads wait for one another, on a busy machine for minutes.
    with threadpool_limits(1, user_api="openmp"):
        model.fit((inputs - mean) / scale, (values - center) / spread)
        found = np.asarray(model.predict((others - mean) / scale), np.float64)
    return center + spread * found


def _ridge(seed: int, num_inputs: int) -> Any:
    from sklearn.linear_model import RidgeCV

    return RidgeCV(np.logspace(-2, 5, 15))


def _svr(seed: int, num_inputs: int) -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer
    from sklearn.svm import SVR

    # With inputs of variance 1, distances then do not depend on how many there are.
    shrink = FunctionTransformer(kw_args={"root": math.sqrt(num_inputs)}, func=_divide)
    return make_pipeline(shrink, SVR(epsilon=0.05))


def _random_forest(seed: int, num_inputs: int) -> Any:
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(100, max_features=1 / 3, random_state=seed)


def _extra_trees(seed: int, num_inputs: int) -> Any:
    from sklearn.ensemble import ExtraTreesRegressor

    return ExtraTreesRegressor(100, random_state=seed)


def _gradient_boosting(seed: int, num_inputs: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(
        max_iter=300,
        learning_rate=0.05,
        max_leaf_nodes=8,
        min_samples_leaf=5,
        max_features=0.3,
        random_state=seed,
    )


def _gaussian_process(seed: int, num_inputs: int) -> Any:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    root = math.sqrt(num_inputs)
    bounds = (1e-5, 1e5)
    kernel = ConstantKernel(1.0, bounds) * Matern(root, (0.05 * root, 100 * root), nu=1.5)
    return _quiet(GaussianProcessRegressor)(kernel + WhiteKernel(0.1, bounds))


def _quiet(regressor: type) -> type:
    """A hyperparameter at its bound is no news: scikit-learn's warning of it is not shown."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning

    class Quiet(regressor):
        def fit(self, inputs, values):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                return super().fit(inputs, values)

    return Quiet


def _divide(inputs: np.ndarray, root: float) -> np.ndarray:
    return inputs / root


#: name -> how to make it from a seed and the number of inputs, and which settings are tried.
REGRESSORS: Mapping[str, tuple[Callable[[int, int], Any], Mapping[str, tuple]]] = {
    "ridge": (_ridge, {}),
    "svr": (_svr, {"svr__C": (1.0, 10.0, 100.0), "svr__gamma": (0.03, 0.1, 0.3, 1.0, 3.0)}),
    "random_forest": (_random_forest, {}),
    "extra_trees": (_extra_trees, {"max_features": (0.3, 1.0)}),
    "gradient_boosting": (_gradient_boosting, {"loss": ("squared_error", "absolute_error")}),
    "gaussian_process": (_gaussian_process, {}),
}
