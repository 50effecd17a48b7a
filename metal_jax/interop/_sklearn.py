"""The label model as a scikit-learn estimator; needs scikit-learn (extra `sklearn`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator  # pyright: ignore[reportMissingImports]
from sklearn.utils.validation import (  # pyright: ignore[reportMissingImports]
    check_is_fitted,
    validate_data,
)

from metal_jax import label_model
from metal_jax.label_model import FitResult
from metal_jax.task_tree import TaskTree


class LabelModelEstimator(BaseEstimator):
    """A label model that is fitted to votes without labels, in scikit-learn's form.

    Like `sklearn.mixture.GaussianMixture` it is no classifier in scikit-learn's sense, since it
    learns without `y`; where some labels are known, `y` holds them and -1 elsewhere, as in
    `sklearn.semi_supervised`.

    Args:
        classes: k class labels, in the order of the class ids that are voted for; by default
            0 .. k-1, k being the highest vote plus one, at least 2.
        tree: a task tree, whose leaves then are the classes and whose node ids the votes.
        class_balance: float[k], kept fixed if given.
        model: `(votes, tree, **settings) -> FitResult`, such as `label_model.fit_dawid_skene`, with
            settings bound by `functools.partial`; `label_model.fit` by default.

    Attributes:
        classes_: the k class labels; with a tree the leaves' "task=label".
        n_features_in_: m, the number of LFs.
        result_: the `FitResult`.
        lf_accuracy_: float[m], estimated accuracies.
        class_balance_: float[k].

    Example:
        >>> votes = np.array([[0, 0, -1], [1, -1, 1], [0, 1, 0], [-1, 1, 1]] * 10)
        >>> LabelModelEstimator(classes=["ham", "spam"]).fit(votes).predict(votes[:2]).tolist()
        ['ham', 'spam']
    """

    def __init__(
        self,
        classes: Sequence[Any] | None = None,
        *,
        tree: TaskTree | None = None,
        class_balance: ArrayLike | None = None,
        model: Callable[..., FitResult] | None = None,
    ) -> None:
        """Keep the settings."""
        self.classes = classes
        self.tree = tree
        self.class_balance = class_balance
        self.model = model

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> LabelModelEstimator:
        """Fit the model.

        Args:
            X: int[n, m] votes, -1 = abstain, -2 = never asked.
            y: int[n] known class ids, or node ids of the tree, -1 = unknown; None for none.

        Returns:
            Itself.

        Raises:
            ValueError: votes that are no class ids, or whatever the model complains about.
        """
        votes = self._votes(X, reset=True)
        tree = self._tree_of(votes)
        settings: dict[str, Any] = {}
        if self.class_balance is not None:
            settings["class_balance"] = self.class_balance
        if y is not None:
            settings["gold"] = np.asarray(y)
        model = label_model.fit if self.model is None else self.model
        self.result_ = model(votes, tree, **settings)
        if self.tree is None:
            ids = np.arange(tree.num_leaves)
            self.classes_ = ids if self.classes is None else _labels(self.classes)
        else:
            self.classes_ = np.asarray(["=".join(tree.node_names[u]) for u in tree.leaf_nodes])
        self.lf_accuracy_ = np.asarray(label_model.lf_accuracy(self.result_))
        self.class_balance_ = self.result_.class_balance
        return self

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Soft labels.

        Args:
            X: int[n, m] votes of the same LFs.

        Returns:
            float64[n, k], rows sum to one (over each root of a forest).
        """
        check_is_fitted(self)
        q = np.array(label_model.posterior(self.result_, self._votes(X, reset=False)), float)
        for span in self.result_.tree.root_leaves:  # the model's rows sum to one in float32
            q[:, span] /= q[:, span].sum(axis=1, keepdims=True)
        return q

    def predict(self, X: ArrayLike) -> np.ndarray:
        """The likeliest classes.

        Args:
            X: int[n, m] votes of the same LFs.

        Returns:
            n class labels.

        Raises:
            ValueError: the tree has several roots; use `predict_proba`.
        """
        q = self.predict_proba(X)
        if len(self.result_.tree.roots) > 1:
            raise ValueError("predict: the tree has several roots; use predict_proba")
        return self.classes_[q.argmax(axis=1)]

    def _votes(self, X: ArrayLike, *, reset: bool) -> np.ndarray:
        checked: Any = X
        array = np.asarray(validate_data(self, checked, reset=reset))
        whole = array.astype(np.int64)
        if not (whole == array).all():
            row, column = np.argwhere(whole != array)[0]
            raise ValueError(
                f"votes: row {row}, LF {column}: got {array[row, column]}, expected a class id"
            )
        return whole

    def _tree_of(self, votes: np.ndarray) -> TaskTree:
        if self.tree is not None:
            if self.classes is not None:
                raise ValueError("classes: the tree already says which classes there are")
            return self.tree
        if self.classes is not None:
            return TaskTree.single([str(label) for label in self.classes])
        return TaskTree.single(max(int(votes.max()) + 1, 2))


def _labels(classes: Sequence[Any]) -> np.ndarray:
    """The labels as they are: NumPy would make text of numbers beside it."""
    labels = np.asarray(classes)
    if labels.ndim == 1 and (labels.dtype.kind not in "US" or set(map(type, classes)) == {str}):
        return labels
    labels = np.empty(len(classes), object)
    labels[:] = list(classes)
    return labels
