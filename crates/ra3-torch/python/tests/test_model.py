"""Drawing, scoring and training against plain forward passes of the same model."""

import random

import pytest
import torch
from conftest import FAMILIES, write_model
from transformers import AutoModelForCausalLM

from ra3_worker import attention, draw, hub, model, run, serve, state, update
from ra3_worker.draw import Rule
from ra3_worker.model import Settings
from ra3_worker.trie import Example
from ra3_worker.wire import Frame, Kind

SETTINGS = Settings(clip_norm=1.0, weight_decay=0.1, n_tokens_micro=100)
PLAIN = update.Objective(False, 0.0, 0.0, 1e-2)


def sequences(seed, n=7, n_max=60):
    """Sequences some of which begin alike, with weights of both signs and restrictions."""
    rng = random.Random(seed)
    start = [rng.randrange(48) for _ in range(20)]
    found = []
    for index in range(n):
        shared = start[: rng.choice([0, 9, 20])]
        tokens = shared + [rng.randrange(48) for _ in range(rng.randrange(1, n_max))]
        weights = [0.0] + [rng.choice([0.0, 0.5, -0.3, 1.0]) for _ in tokens[1:]]
        choices = {}
        if len(tokens) > 5 and index % 2:
            others = [token for token in range(48) if token != tokens[4]]
            choices[4] = (*rng.sample(others, rng.randrange(4)), tokens[4])
        found.append(Example(tokens, weights, choices, []))
    return found


def reference(folder, examples):
    """Log-probabilities of every token of weight by one plain pass for each sequence."""
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return network, logprobs(network, examples)


def logprobs(network, examples):
    found = []
    for example in examples:
        logits = network(torch.tensor([example.tokens])).logits[0]
        row = [torch.zeros(())]
        for at in range(1, len(example.tokens)):
            among, target = logits[at - 1], example.tokens[at]
            if at in example.choices:
                among = among[list(example.choices[at])]
                target = example.choices[at].index(target)
            row.append(among.log_softmax(-1)[target])
        found.append(torch.stack(row))
    return found


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [False, True])
def test_scores_and_gradients_are_those_of_plain_passes(tmp_path, monkeypatch, family, tied):
    folder = write_model(tmp_path, family, tied)
    examples = sequences(3)
    network, expected = reference(folder, examples)
    loss = -sum(
        (torch.tensor(example.weights) * row).sum()
        for example, row in zip(examples, expected, strict=True)
    )
    loss.backward()
    wide = dict(network.named_parameters())
    for recompute, n_span in ((False, 512), (True, 512), (False, 1)):
        monkeypatch.setattr(attention, "SPAN_ROWS", n_span)
        settings = Settings(n_tokens_micro=100, recompute=recompute)
        ours = model.load(folder, settings)
        scores, _ = run.score(ours, settings, examples)
        for example, row, want in zip(examples, scores, expected, strict=True):
            for weight, value, target in zip(example.weights, row, want.tolist(), strict=True):
                assert value == 0.0 if weight == 0.0 else abs(value - target) < 2e-5
        stats = update.gradient(ours, settings, examples, PLAIN)
        assert stats.loss == pytest.approx(float(loss.detach()), rel=1e-5)
        assert stats.n_run < sum(len(example.tokens) for example in examples)
        for name, parameter in ours.parameters().items():
            distance = (parameter.grad - wide[name].grad).norm()
            assert distance <= 1e-5 * stats.norm, name


def draws(ours, settings, prompts, seeds, rule):
    """What each row draws, and its log-probabilities."""
    engine = run.Engine(ours, settings)
    for index, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
        engine.waiting.append(run.Row(index, list(prompt), seed=seed, rule=rule))
    found = {}
    while len(found) < len(prompts):
        for done in engine.until_finished():
            found[done.index] = (done.tokens, done.logprobs)
            row = next(row for row in [*engine.live, *engine.waiting] if row.index == done.index)
            engine.leave(row)
    return [found[index] for index in range(len(prompts))]


@pytest.mark.parametrize(
    ("n_slots", "n_gathered"), [(160, 1 << 12), (100_000, 64), (100_000, 1 << 17)]
)
def test_a_row_depends_on_no_other_and_scores_are_the_draws(
    folder, monkeypatch, n_slots, n_gathered
):
    monkeypatch.setattr(run, "GATHERED_CPU", n_gathered)
    wide = model.load(folder, SETTINGS)
    n_bytes = run.Pool(wide, SETTINGS).n_bytes * n_slots
    settings = Settings(cache_bytes_max=n_bytes)
    rng = random.Random(n_slots)
    prompts = [example.tokens for example in sequences(4, 24)]
    seeds = [rng.getrandbits(64) for _ in prompts]
    rule = Rule(1.3, 0, 0.0, 9, None, frozenset({7}))
    together = draws(wide, settings, prompts, seeds, rule)
    for index in rng.sample(range(len(prompts)), 5):
        alone = draws(wide, SETTINGS, [prompts[index]], [seeds[index]], rule)
        assert alone == [together[index]]
    known = [
        Example(prompt + tokens, [0.0] * len(prompt) + [1.0] * len(tokens), {}, [])
        for prompt, (tokens, _) in zip(prompts, together, strict=True)
    ]
    scores, _ = run.score(wide, settings, known)
    for prompt, row, (_, logprobs) in zip(prompts, scores, together, strict=True):
        assert row[len(prompt) :] == logprobs


def played(ours, settings, scripts, drafts):
    """What rows draw that each draw one of two tokens before known lines, move after move; with
    drafts, by row the tokens that are likely to follow each move.
    """
    engine = run.Engine(ours, settings)
    rule = Rule(1.0, 0, 0.0, 1, (1, 2), frozenset())
    rows = [run.Row(index, seed=draw.nth(3, index)) for index in range(len(scripts))]
    places, found, n_passes = [0] * len(rows), [[] for _ in rows], 0

    def begin(row):
        place = places[row.index]
        row.tokens += scripts[row.index][place]
        row.rule, row.draft = rule, drafts[row.index][place] if drafts else []
        places[row.index] += 1

    run_pass = engine._pass

    def counted(fresh):
        nonlocal n_passes
        n_passes += 1
        run_pass(fresh)

    engine._pass = counted
    for row in rows:
        begin(row)
    engine.waiting.extend(rows)
    n_open = len(rows)
    while n_open:
        for done in engine.until_finished():
            row = rows[done.index]
            found[done.index] += [*done.tokens, *done.logprobs]
            if places[done.index] == len(scripts[done.index]):
                engine.leave(row)
                n_open -= 1
            else:
                begin(row)
    assert engine.pool.n_open == engine.pool.n_slots_max, "every slot is given back"
    return found, n_passes


@pytest.mark.parametrize("n_slots", [150, 100_000])
def test_drafts_change_no_bit_and_save_passes(folder, n_slots):
    ours = model.load(folder, SETTINGS)
    n_bytes = run.Pool(ours, SETTINGS).n_bytes * n_slots
    settings = Settings(cache_bytes_max=n_bytes)
    rng = random.Random(n_slots)
    lines = [[rng.randrange(3, 48) for _ in range(rng.randrange(1, 9))] for _ in range(14)]
    # Rows of three prompts, so that some share what they draft.
    scripts = [[[40 + row % 3, 5], *lines] for row in range(7)]
    plain, n_plain = played(ours, settings, scripts, None)
    right, mixed = [], []
    for row, script in enumerate(scripts):
        # What is drawn at a move, then what is fed, and so on: a row's own future.
        tokens = plain[row][::2]
        rest = [
            [
                token
                for at in range(place, len(script))
                for token in (tokens[at], *follows(script, at))
            ]
            for place in range(len(script))
        ]
        right.append(rest)
        kinds = [rest, [[1] * 200] * len(script), [some[: 3 * row] for some in rest]]
        mixed.append([kinds[(row + place) % 3][place] for place in range(len(script))])
    found, n_right = played(ours, settings, scripts, right)
    assert found == plain
    assert played(ours, settings, scripts, mixed)[0] == plain
    assert n_right <= n_plain
    # Of one row alone windows of 16, 32 and 64 tokens are all there is.
    _, n_alone = played(ours, settings, scripts[:1], right[:1])
    assert n_alone <= 4 < n_plain


def asked(server, kind, columns):
    """What a server answers, as columns."""
    code, found = server.answer(Frame(kind, 1, columns))
    assert code == Kind.ANSWER, found.body()
    return hub.columns_of(found.body())


def drawn_by(server, prompts, n_tokens):
    """Rows that each draw once, as `ra3` asks for them."""
    n = len(prompts)
    asked(server, Kind.RUN_BEGIN, [[1]])
    sizes, fed = [len(prompt) for prompt in prompts], [at for prompt in prompts for at in prompt]
    moves = [list(range(n)), [1] * n, sizes, [draw.nth(5, row) for row in range(n)], fed]
    moves += [[1.0, 0.0] * n, [0, n_tokens, 0, 0, 0] * n, [], [], []]
    found, n_open = [None] * n, n
    while n_open:
        rows, n_each, _, tokens, logprobs = asked(server, Kind.MOVES, moves)
        at = 0
        for row, size in zip(rows, n_each, strict=True):
            found[row] = (tokens[at : at + size], logprobs[at : at + size])
            at += size
        n_open -= len(rows)
        moves = [rows, [0] * len(rows), [0] * len(rows), [0] * len(rows), [], [], [], [], [], []]
    asked(server, Kind.RUN_END, [])
    return found


def batch_of(examples):
    """Examples as columns; none has choices or old log-probabilities."""
    sizes, none = [len(example.tokens) for example in examples], [0] * len(examples)
    tokens = [token for example in examples for token in example.tokens]
    weights = [weight for example in examples for weight in example.weights]
    return [sizes, none, none, tokens, weights, [], [], [], []]


def scored_by(server, examples, slot=1):
    """Scores, and how many rows they ran."""
    scores, [n_run], _ = asked(server, Kind.SCORE, [[slot], *batch_of(examples)])
    return scores, n_run


@pytest.mark.parametrize("more", [{}, {"dtype": "bfloat16"}, {"cuda_graphs": True}])
@pytest.mark.parametrize("n_slots", [150, 100_000])
def test_what_was_drawn_is_scored_by_what_drawing_it_ran(folder, more, n_slots):
    settings = Settings(n_tokens_micro=100, **more)
    n_bytes = run.Pool(model.load(folder, settings), settings).n_bytes * n_slots
    settings = Settings(n_tokens_micro=100, cache_bytes_max=n_bytes, **more)
    server = serve.Server(settings)
    server.models = {1: model.load(folder, settings), 2: model.load(folder, settings)}
    prompts = [example.tokens[:30] for example in sequences(3, 12)]

    def examples():
        found = drawn_by(server, prompts, 9)
        rows = [
            Example(prompt + tokens, [0.0] + [1.0] * (len(prompt) + len(tokens) - 1), {}, [])
            for prompt, (tokens, _) in zip(prompts, found, strict=True)
        ]
        # And one that nobody has drawn.
        return [*rows, sequences(9)[0]]

    known = examples()
    kept, n_kept = scored_by(server, known)
    again, n_again = scored_by(server, known)
    other, n_other = scored_by(server, known, 2)
    assert kept == again == other and n_again == n_other
    if n_slots == 100_000:
        # The last token of each, which nothing was drawn behind, and the one of nobody.
        assert n_kept <= len(prompts) + len(known[-1].tokens) < n_again
    else:
        assert n_kept < n_again

    assert examples() == known
    assert scored_by(server, known, 2) == (again, n_again)
    # What is asked between has it go: here a copy, and other weights.
    for kind, columns in (
        (Kind.COPY, [[1], [3]]),
        (Kind.UPDATE, [[1], [0.0, 0.0, 0.0, 1e-2], *batch_of(known)]),
    ):
        assert examples() == known
        asked(server, kind, columns)
        found, n_found = scored_by(server, known)
        assert n_found == n_again
    assert found != again
    assert found == [x for row in run.score(server.models[1], settings, known)[0] for x in row]


def follows(script, place):
    """What is fed after a move's draw."""
    return script[place + 1] if place + 1 < len(script) else []


def test_a_pool_that_is_too_small_says_so(folder):
    ours = model.load(folder, SETTINGS)
    n_bytes = run.Pool(ours, SETTINGS).n_bytes
    example = Example(list(range(20)), [0.0] + [1.0] * 19, {}, [])
    with pytest.raises(run.PoolTooSmall) as error:
        run.score(ours, Settings(cache_bytes_max=19 * n_bytes), [example])
    assert error.value.args == (20, 19, 20 * n_bytes)


@pytest.mark.parametrize("n_slots", [14, 100])
def test_slots_that_nobody_holds_stay_and_go_after_those_above_them(folder, n_slots):
    ours = model.load(folder, SETTINGS)
    settings = Settings(cache_bytes_max=n_slots * run.Pool(ours, SETTINGS).n_bytes)
    pool, rng, paths, n_found = run.Pool(ours, settings), random.Random(3), [], 0
    for _ in range(600):
        if paths and (len(paths) > 3 or rng.random() < 0.5):
            pool.release(paths.pop(rng.randrange(len(paths))))
        path = []
        for _ in range(rng.randrange(1, 7)):
            parent, token = path[-1] if path else -1, rng.randrange(2)
            slot = pool.find(parent, token)
            if slot is None:
                slot = pool.take(parent, token)
                if slot is None:
                    break
            else:
                n_found += slot in pool._idle
                pool.hold(slot)
            path.append(slot)
        paths.append(path)
        held = {slot for path in paths for slot in path}
        assert held.isdisjoint(pool._idle) and pool.n_open == n_slots - len(held)
        known = {-1, *held, *pool._idle}
        assert set(pool._children.values()) == known - {-1}
        assert all(parent in known for parent, _ in pool._children)
        assert len(known) - 1 <= 2 * pool._n_held_max
    assert n_found > 100


def test_trees_attend_together_up_to_a_number_of_rows():
    assert attention._spans([]) == []
    # Trees of 3, 200, 309, 1, 600 and 2 rows.
    ends, start = [], 0
    for n in (3, 200, 309, 1, 600, 2):
        ends += [start + n] * n
        start += n
    assert attention._spans(ends) == [(0, 512), (512, 513), (513, 1113), (1113, 1115)]


def test_the_optimizer_is_adamw(folder):
    ours = model.load(folder, SETTINGS)
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    groups = [
        {"params": [p for p in network.parameters() if p.ndim == 2], "weight_decay": 0.1},
        {"params": [p for p in network.parameters() if p.ndim != 2], "weight_decay": 0.0},
    ]
    theirs = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95), eps=1e-8)
    for seed in range(3):
        batch = sequences(seed)
        stats = update.update(ours, SETTINGS, batch, PLAIN)
        assert stats.norm > SETTINGS.clip_norm
        theirs.zero_grad()
        for example, row in zip(batch, logprobs(network, batch), strict=True):
            (-(torch.tensor(example.weights) * row).sum()).backward()
        torch.nn.utils.clip_grad_norm_(
            network.parameters(), SETTINGS.clip_norm, error_if_nonfinite=True
        )
        theirs.step()
    wide = dict(network.named_parameters())
    # All together: keys' biases have no gradient but rounding, which the moments divide by itself.
    square = sum((value - wide[name]).square().sum() for name, value in ours.parameters().items())
    assert square <= 1e-10 * sum(value.square().sum() for value in wide.values())


def test_a_gradient_that_has_to_be_the_same_is_strict(folder, monkeypatch):
    ours = model.load(folder, SETTINGS)
    seen = []
    add = update._add_gradient

    def watched(*parts):
        seen.append(torch.is_deterministic_algorithms_warn_only_enabled())
        add(*parts)

    monkeypatch.setattr(update, "_add_gradient", watched)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        update.gradient(ours, SETTINGS, sequences(6), PLAIN)
        assert seen and not any(seen)
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    update.gradient(ours, SETTINGS, sequences(6), PLAIN)
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_gap_is_the_distance_from_what_was_sampled(folder):
    ours = model.load(folder, SETTINGS)
    examples = sequences(6)
    assert update.gradient(ours, SETTINGS, examples, PLAIN).n_sampled == 0
    scores, _ = run.score(ours, SETTINGS, examples)
    for shift in (0.0, 0.25):
        for example, row in zip(examples[::2], scores[::2], strict=True):
            example.old_logprobs = [value + shift for value in row]
        stats = update.gradient(ours, SETTINGS, examples, PLAIN)
        n_targets = sum(weight != 0.0 for example in examples[::2] for weight in example.weights)
        assert stats.n_sampled == n_targets < stats.n_targets
        assert stats.gap / n_targets == pytest.approx(shift, abs=1e-5)


def test_what_is_not_finite_moves_nothing(folder):
    ours = model.load(folder, SETTINGS)
    update.update(ours, SETTINGS, sequences(1), PLAIN)
    before = {name: value.clone() for name, value in ours.parameters().items()}
    n_steps = ours.moments.n_steps
    batch = sequences(2)
    batch[0].weights[1:] = [3e38] * (len(batch[0].weights) - 1)
    with pytest.raises(update.NonFinite):
        update.update(ours, SETTINGS, batch, PLAIN)
    assert ours.moments.n_steps == n_steps
    for name, value in ours.parameters().items():
        assert torch.equal(value, before[name]) and value.grad is None


@pytest.mark.parametrize("moments", ["float32", "bfloat16"])
def test_a_saved_model_continues_with_the_same_bits(folder, tmp_path, moments):
    settings = Settings(weight_decay=0.1, moments=moments)
    straight = model.load(folder, settings)
    for seed in range(2):
        update.update(straight, settings, sequences(seed), PLAIN)
    state.save(straight, tmp_path, state.STATE)
    update.update(straight, settings, sequences(2), PLAIN)
    continued = model.load(folder, settings)
    state.load_state(continued, tmp_path, "cpu")
    update.update(continued, settings, sequences(2), PLAIN)
    for name, value in straight.parameters().items():
        assert torch.equal(value, continued.parameters()[name]), name
    assert {path.name for path in tmp_path.iterdir()} == {
        state.CONFIG,
        state.WEIGHTS,
        state.TRAINING,
    }


def test_grown_and_restarted_rows_are_near_the_mean(tmp_path):
    for tied in (False, True):
        ours = model.load(write_model(tmp_path, tied=tied), SETTINGS)
        old = [ours.embedding.detach().clone(), ours.head.weight.detach().clone()]
        width, n_new = old[0].shape[1], 3
        noise = [[1.0] * (n_new * width)] * (1 if tied else 2)
        ours.grow(51, noise)
        ours.restart([5], [row[:width] for row in noise])
        assert ours.is_tied == tied and ours.shape()["n_vocabulary"] == 51
        for weight, rows in zip([ours.embedding, ours.head.weight], old, strict=True):
            fresh = rows.mean(0) + 0.01 * rows.square().mean().sqrt()
            kept = [row for row in range(48) if row != 5]
            assert torch.equal(weight[kept], rows[kept])
            assert (weight[48:] - fresh).abs().max() < 1e-6
            assert (weight[5] - weight[48]).abs().max() < 1e-2
        again = model.load(folder_of(ours, tmp_path / "grown"), SETTINGS)
        assert torch.equal(again.embedding, ours.embedding)
        update.update(ours, SETTINGS, sequences(1), PLAIN)


def folder_of(ours, folder):
    """Writes a model, and says where."""
    state.save(ours, folder, state.EXACT)
    return folder


def test_short_floats_are_near(folder):
    short = Settings(dtype="bfloat16")
    examples = sequences(5)
    wide, _ = run.score(model.load(folder, SETTINGS), SETTINGS, examples)
    found, _ = run.score(model.load(folder, short), short, examples)
    distances = [
        abs(a - b)
        for row, other in zip(wide, found, strict=True)
        for a, b in zip(row, other, strict=True)
    ]
    assert 0.0 < max(distances) < 1.0 and sum(distances) / len(distances) < 0.05
    ours = model.load(folder, short)
    stats = update.update(ours, short, examples, PLAIN)
    assert stats.norm > 0.0
    # Weights that are made short once have the bits of those that each pass makes short.
    for is_trained in (False, True):
        if is_trained:
            update.update(ours, short, examples, PLAIN)
        known, _ = run.score(ours, short, examples)
        assert known != found
        for product in ours.network.modules():
            product.is_short = False
        assert run.score(ours, short, examples)[0] == known
        for product in ours.network.modules():
            product.is_short = True
        found = known


def test_draws_invert_the_distribution():
    logits = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()[None]

    def drawn(share, **more):
        rule = {"temperature": 1.0, "top_k": 0, "top_p": 0.0, "choices": None, **more}
        rule = Rule(n_tokens_max=1, stop=frozenset(), **rule)
        [(token, _)] = draw.answer(logits, [draw.Ask(0, 0, rule.choices, rule, share)])
        return token

    def all_of(**more):
        return [drawn(share, **more) for share in (0.0, 0.49, 0.51, 0.74, 0.76, 0.99)]

    assert all_of() == [0, 0, 1, 1, 2, 3]
    assert all_of(top_k=2) == [0, 0, 0, 1, 1, 1]
    assert all_of(top_p=0.74) == [0, 0, 0, 1, 1, 1]
    assert all_of(choices=(2, 3)) == [2, 2, 3, 3, 3, 3]
    assert all_of(temperature=0.0) == [0] * 6
    assert all_of(temperature=0.0, choices=(3, 2)) == [2] * 6
    assert all_of(temperature=float("inf")) == [0, 1, 2, 2, 3, 3]
    assert [drawn(u, top_k=3, top_p=0.85) for u in (0.6, 0.7, 0.99)] == [0, 1, 1]


def test_seeds_are_those_of_the_engine():
    """The figures of the test of `ra3::seed`."""
    root = 0xBB79_7A45_7B62_8D39
    assert draw.mix(0) == 0xE220_A839_7B1D_CDAF
    assert draw.nth(root, 3) == 0xF8B6_F569_9DD9_B876
    assert draw.uniform(root) == 0.9327827105034742
