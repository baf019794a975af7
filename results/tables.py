#!/usr/bin/env python3
"""Tables of docs/results.md that `ra3 compare` does not print, from the records of finished runs.

    python3 results/tables.py families results/miniature
    python3 results/tables.py e-step results/miniature
    python3 results/tables.py curves results/miniature-1e-4:ra3 results/miniature:ntp
    python3 results/tables.py arms results/ablations ra3
    python3 results/tables.py estimator results/estimator
    python3 results/tables.py horizon results/horizon
    python3 results/tables.py real-code results/real-code
    python3 results/tables.py precision results/quickstart-bf16 results/quickstart-f32

`families`: pass@1 and, in brackets, the share of programs with a plan, of each model and decision;
means over seeds, in %. `e-step`: figures of the E-step, means over seeds and five updates of a
round, by arm. `curves`: one arm's RLVR less another's over the seeds that both have, of one study
or of two; intervals are of Student's t over seeds. `arms`: pass@1 of each arm by seed in %, and less
that of one of them, with such an interval, for studies whose seeds `ra3 compare` keeps apart, since
they named the base from different folders. `estimator`: the E-step's gradient by the arms of
runs/estimator.toml: with batches of b and 8 b rollouts the mean squared norm is |g|^2 + v and
|g|^2 + v / 8; printed are |g|, the noise sqrt(v) of 64 rollouts and v / |g|^2 (with the 95 %
interval of a bootstrap over updates), and the tokens that an update of 64 rollouts draws.
`horizon`: by switch cost pass@1, and of held-out documents the share of lines with a think, lines a
latent, tokens of latents a line (markers too) and nats of a rationale (of the E-step's last five
updates), then differences of costs. `real-code`: bits of a byte of held-out files of NTP, with
comments and without, and of RA3 under its bounds, without; what a think gains, in nats. Both by seed
and with intervals of Student's t over seeds. `precision`: pass@1 of each arm by seed, in %, of one
study and of another, the second's standard deviation, and the difference of the same seeds.
"""

import collections
import json
import math
import pathlib
import random
import statistics
import sys

FAMILIES = ["pipeline", "record", "order", "worked", "cups", "days"]
# Quantiles at 0.975, by degrees of freedom.
T = {1: 12.7062, 2: 4.3027, 3: 3.1824, 4: 2.7764}
UPDATES_OF_ROUND, UPDATES_OF_ROW = 20, 5


def records(folder):
    """Every record with its seed's folder."""
    for path in sorted(pathlib.Path(folder).glob("seed-*/ledger.jsonl")):
        for line in path.read_text().splitlines():
            yield path.parent.name, json.loads(line)


def families(folder):
    scores = collections.defaultdict(list)
    for _, record in records(folder):
        if record["record"] == "score" and record["stage"].startswith("evaluate-"):
            scores[record["stage"], record["decision"]].append(record)
    print("stage, decision: all", *FAMILIES)
    for (stage, decision), found in scores.items():
        mean = lambda k: statistics.mean(score["pass_at"][k]["mean"] for score in found)
        passed = [f"@{k} {100 * mean(k):.1f}" for k in found[0]["pass_at"]]
        count = lambda family, key: sum(score["plans"][family][key] for score in found)
        share = lambda family, key: f"{100 * count(family, key) / count(family, 'n_programs'):.0f}"
        cells = [f"{share(it, 'n_right')} ({share(it, 'n_planned')})" for it in FAMILIES]
        print(f"{stage}, {decision}:", *passed, *cells)


def e_step(folder):
    figures, n_before = collections.defaultdict(list), collections.Counter()
    for seed, record in records(folder):
        if record["record"] == "update" and record.get("phase") == "e_step":
            arm = record["stage"]
            index = n_before[seed, arm]
            n_before[seed, arm] += 1
            row = (arm, index // UPDATES_OF_ROUND, index % UPDATES_OF_ROUND // UPDATES_OF_ROW)
            figures[row].append(record["figures"])
    for (arm, part, row), found in sorted(figures.items()):
        keys = ["mean_gain", "think_rate", "persistence", "rationale_tokens", "rationale_nats"]
        # Earlier runs did not record the last one.
        keys = [key for key in keys if key in found[0]]
        means = [f"{key} {statistics.mean(it[key] for it in found):.3f}" for key in keys]
        first = row * UPDATES_OF_ROW + 1
        print(f"{arm}, round {part + 1}, updates {first} to {first + UPDATES_OF_ROW - 1}:", *means)


def curves_of(place):
    folder, arm = place.rsplit(":", 1)
    curves = collections.defaultdict(list)
    for seed, record in records(folder):
        if record["record"] == "score" and record["stage"] == f"rlvr-{arm}":
            curves[seed].append((record["position"], record["pass_at"]["1"]["mean"]))
    return curves


def area(curve):
    pieces = zip(curve, curve[1:])
    sums = [(after[0] - before[0]) * (after[1] + before[1]) / 2 for before, after in pieces]
    return sum(sums) / (curve[-1][0] - curve[0][0])


def plateau(curve):
    return statistics.mean(height for _, height in curve[-math.ceil(len(curve) / 4) :])


def reached(curve, level):
    for before, after in zip([None, *curve], curve):
        if after[1] >= level:
            if before is None:
                return after[0]
            return before[0] + (after[0] - before[0]) * (level - before[1]) / (after[1] - before[1])
    return math.inf


def spread(values, digits=2):
    """A mean and its interval, of figures that are no shares."""
    half = T[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.mean(values)
    return f"{mean:+.{digits}f} [{mean - half:+.{digits}f}, {mean + half:+.{digits}f}]"


def interval(values):
    half = T[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.mean(values)
    return f"{100 * mean:+.1f} [{100 * (mean - half):+.1f}, {100 * (mean + half):+.1f}]"


def curves(place, other_place):
    one, other = curves_of(place), curves_of(other_place)
    seeds = sorted(one.keys() & other.keys())
    for name, figure in [("mean height", area), ("last quarter", plateau)]:
        print(f"{name}:", interval([figure(one[seed]) - figure(other[seed]) for seed in seeds]))
    means = []
    for found in (one, other):
        points = zip(*(found[seed] for seed in seeds))
        means.append([(point[0][0], statistics.mean(it[1] for it in point)) for point in points])
    level = plateau(means[1])
    print(f"at the other's last quarter, {100 * level:.1f}, after updates:", end=" ")
    print(*(f"{reached(mean, level):.0f}" for mean in means))


def estimator(folder):
    squares, drawn = collections.defaultdict(list), collections.defaultdict(list)
    for _, record in records(folder):
        if record["record"] == "update" and record.get("phase") == "e_step":
            squares[record["stage"]].append(record["figures"]["gradient_norm"] ** 2)
            drawn[record["stage"]].append(record["n_tokens_sampled"])

    def parts(small, large):
        signal = max((8 * statistics.mean(large) - statistics.mean(small)) / 7, 0)
        return signal, statistics.mean(small) - signal

    draws = random.Random(0)
    again = lambda values: draws.choices(values, k=len(values))
    for stage in [stage for stage in squares if stage.endswith("-small")]:
        name = stage.removesuffix("-small")
        small, large = squares[stage], squares[f"{name}-large"]
        signal, noise = parts(small, large)
        pairs = [parts(again(small), again(large)) for _ in range(4000)]
        ratios = sorted(noise / signal if signal > 0 else math.inf for signal, noise in pairs)
        low, high = ratios[99], ratios[3899]
        ratio = noise / signal if signal > 0 else math.inf
        print(
            f"{name}: |g| {math.sqrt(signal):.1f} noise {math.sqrt(max(noise, 0)):.1f}",
            f"ratio {ratio:.2f} [{low:.2f}, {high:.2f}]",
            f"tokens {statistics.mean(drawn[stage]):.0f}",
        )


def arms(folder, other):
    found = collections.defaultdict(dict)
    for seed, record in records(folder):
        if record["record"] == "score" and record["stage"].startswith("evaluate-"):
            found[record["arm"]][seed] = 100 * record["pass_at"]["1"]["mean"]
    for arm, scores in found.items():
        differences = [scores[seed] - found[other][seed] for seed in sorted(scores)]
        by_seed = " ".join(f"{scores[seed]:.1f}" for seed in sorted(scores))
        mean = statistics.mean(scores.values())
        print(f"{arm}: {by_seed}, mean {mean:.1f},", spread(differences, 1))


def horizon(folder):
    found = collections.defaultdict(lambda: collections.defaultdict(dict))
    for path in pathlib.Path(folder).glob("*cost=*-seed-*/ledger.jsonl"):
        cost, seed = path.parent.name.rsplit("cost=", 1)[1].split("-seed-")
        figures, nats = found[float(cost)], []
        for record in map(json.loads, path.read_text().splitlines()):
            if record["record"] == "held_out":
                latents = record["latents"]
                thought = latents["think_rate"] * (latents["rationale_tokens"] + 1)
                figures["tokens"][seed] = 1 + thought
                for name in ("think_rate", "persistence", "gain"):
                    figures[name][seed] = latents[name]
            elif record["record"] == "score":
                figures["pass@1"][seed] = 100 * record["pass_at"]["1"]["mean"]
            elif record.get("phase") == "e_step":
                nats.append(record["figures"]["rationale_nats"])
        figures["nats"][seed] = statistics.mean(nats[-5:])
    names = ["pass@1", "think_rate", "persistence", "tokens", "nats", "gain"]
    for cost, figures in sorted(found.items()):
        seeds = sorted(figures["pass@1"])
        cells = [f"{name} {statistics.mean(figures[name].values()):.3f}" for name in names]
        by_seed = " ".join(f"{figures['pass@1'][seed]:.1f}" for seed in seeds)
        print(f"c = {cost}:", *cells, f"pass@1 of seeds {', '.join(seeds)}: {by_seed}")
    costs = sorted(found)
    pairs = [(costs[-1], costs[0]), (0.3, costs[0]), (0.3, costs[-1])]
    for cost, other in pairs:
        for name in ("pass@1", "persistence", "tokens"):
            one, two = found[cost][name], found[other][name]
            differences = [one[seed] - two[seed] for seed in sorted(one.keys() & two.keys())]
            print(f"{name}, c = {cost} less c = {other}:", spread(differences))


def real_code(folder):
    found = collections.defaultdict(dict)
    for seed, record in records(folder):
        if record["record"] == "held_out":
            found[record["arm"]][seed] = record
    seeds = sorted(found["ra3"])
    row = lambda values: " ".join(f"{value:.4f}" for value in values)
    bounds = lambda arm, name: [found[arm][seed]["bounds"][name] for seed in seeds]
    for arm in ("base", "ntp"):
        exact = [found[arm][seed]["bits_per_byte"] for seed in seeds]
        print(f"{arm}: with comments {row(exact)}, without {row(bounds(arm, 'lifted_text'))}")
    names = ["elbo", "iwae_4", "iwae_16", "written_iwae_16"]
    print("ra3:", ", ".join(f"{name} {row(bounds('ra3', name))}" for name in names))
    pairs = zip(bounds("ra3", "iwae_16"), bounds("ntp", "lifted_text"))
    print("iwae_16 less ntp without comments:", spread([one - two for one, two in pairs], 3))
    names = ["think_rate", "gain", "gain_everywhere", "gain_share_everywhere"]
    for name in names:
        print(f"{name}:", spread([found["ra3"][seed]["latents"][name] for seed in seeds], 4))


def precision(folder, other):
    found = []
    for place in (folder, other):
        scores = collections.defaultdict(dict)
        for seed, record in records(place):
            is_final = record["record"] == "score" and record["stage"].startswith("evaluate-")
            if is_final and record["decision"] == "plain":
                scores[record["arm"]][seed] = 100 * record["pass_at"]["1"]["mean"]
        found.append(scores)
    for arm in found[0]:
        seeds = sorted(found[0][arm].keys() & found[1][arm].keys())
        one, two = ([scores[arm][seed] for seed in seeds] for scores in found)
        row = lambda values: " ".join(f"{value:.1f}" for value in values)
        print(
            f"{arm}: {row(one)} against {row(two)}, deviation {statistics.stdev(two):.1f},", end=" "
        )
        print("difference", spread([a - b for a, b in zip(one, two)], 1))


if __name__ == "__main__":
    tables = {"families": families, "e-step": e_step, "curves": curves, "estimator": estimator}
    tables |= {"arms": arms, "horizon": horizon, "real-code": real_code}
    tables["precision"] = precision
    tables[sys.argv[1]](*sys.argv[2:])
