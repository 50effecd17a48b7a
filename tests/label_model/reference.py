"""Plain, slow, independent implementations that the library is checked against."""

import itertools

import numpy as np


def enumerate_posterior(prior, tables, votes):
    """P(y | votes) by Bayes' rule in the probability domain; tables[j][vote + 1][y]."""
    out = np.zeros((len(votes), len(prior)))
    for i, row in enumerate(votes):
        for y in range(len(prior)):
            p = prior[y]
            for j, vote in enumerate(row):
                p *= tables[j][vote + 1][y]
            out[i, y] = p
    return out / out.sum(1, keepdims=True)


def all_vote_patterns(num_lfs, num_classes):
    return np.array(list(itertools.product(range(-1, num_classes), repeat=num_lfs)))


def flat_majority(votes, k):
    counts = np.stack([(votes == y).sum(1) for y in range(k)], axis=1)
    best = counts == counts.max(1, keepdims=True)
    return best / best.sum(1, keepdims=True)


def flat_dawid_skene(votes, k, *, steps, accuracy, strength, balance_items):
    """EM with informative abstains from the majority vote, with loops over LFs."""
    n, m = votes.shape
    q = 0.99 * flat_majority(votes, k) + 0.01 / k
    used = [sorted(set(votes[:, j]) - {-1}) for j in range(m)]
    for _ in range(steps):
        log_post = np.log((q.sum(0) + balance_items) / (n + k * balance_items))[None].repeat(n, 0)
        for j in range(m):
            abstain_rate = (votes[:, j] == -1).mean()
            for y in range(k):
                counts = {}
                if abstain_rate > 0:
                    counts[-1] = q[votes[:, j] == -1, y].sum() + strength * abstain_rate
                wrong = [u for u in used[j] if u != y]
                for u in used[j]:
                    if y not in used[j]:
                        share = 1 / len(wrong)
                    elif not wrong:
                        share = 1.0
                    else:
                        share = accuracy if u == y else (1 - accuracy) / len(wrong)
                    prior = strength * (1 - abstain_rate) * share
                    counts[u] = q[votes[:, j] == u, y].sum() + prior
                total = sum(counts.values())
                for u, count in counts.items():
                    log_post[votes[:, j] == u, y] += np.log(count / total)
        q = np.exp(log_post - log_post.max(1, keepdims=True))
        q /= q.sum(1, keepdims=True)
    return q


def flat_overlap_loss(mu, overlaps, balance, lf):
    loss = 0.0
    for a in range(len(mu)):
        for b in range(len(mu)):
            if lf[a] != lf[b]:
                loss += (overlaps[a, b] - sum(mu[a] * balance * mu[b])) ** 2
        loss += (overlaps[a, a] - sum(mu[a] * balance)) ** 2
    return loss
