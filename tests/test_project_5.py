"""Project 5: the rules in both forms, what the snake sees, the functions that readers copy, the
published figure, kill and resume, the window without a screen."""
import json
import pickle
import sys
import threading
import time
from contextlib import chdir

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from gymnasium.utils.env_checker import check_env

from notebooks import ROOT, interrupted, reuse_module, take

PROJECT = ROOT / "5_RL_Snake"
MODELS = ROOT / "models" / PROJECT.name
WALLS = ((1, 1), (1, 2))


@pytest.fixture(scope="module")
def snake():
    """The module of the reuse cells; its MODELS is relative to the project's folder."""
    with chdir(PROJECT):
        yield reuse_module(PROJECT / "inference.ipynb")


@pytest.fixture(scope="module", autouse=True)
def one_thread(snake):
    """Beside other work more threads only wait for each other."""
    with snake.one_thread():
        yield


@pytest.fixture(scope="module")
def agent(snake):
    return snake.load_agent(device="cpu")


@pytest.fixture(scope="module")
def lesson():
    """Functions of the training notebook."""
    return take(PROJECT / "train.ipynb", "train_agent", "Replay", "on_a_cycle", "QNetwork",
                "SnakeGames", "observe", "play_many", "greedy", "returns")


# The rules

def test_gymnasium_accepts_the_environment(snake):
    check_env(snake.SnakeEnv(6, 7), skip_render_check=True)


ALL = [(row, column) for row in range(6) for column in range(6)]
SNAKE = [(3, 3), (3, 2), (3, 1)]    # at the start on 6×6


@pytest.mark.parametrize("wrong, error", [
    ({"rows": 2, "columns": 2}, ValueError), ({"columns": 3}, ValueError),
    ({"rows": 6.0}, TypeError), ({"rows": "6"}, TypeError),
    ({"walls": [(99, 99)]}, ValueError), ({"walls": [(-1, 2)]}, ValueError),
    ({"walls": [(0, 6)]}, ValueError), ({"walls": [(3, 2)]}, ValueError),
    ({"walls": ALL}, ValueError), ({"walls": [c for c in ALL if c not in SNAKE]}, ValueError),
    ({"walls": [(0.5, 1)]}, TypeError)])
def test_boards_that_are_none(snake, lesson, wrong, error):
    """All three implementations refuse them."""
    for make in (snake.SnakeEnv, lambda **board: lesson.SnakeGames([0], **board),
                 lambda **board: snake.QuickGame(0, **board)):
        with pytest.raises(error, match="got"):
            make(**{"rows": 6, "columns": 6} | wrong)


def test_walls_named_twice_count_once(snake, lesson):
    walls = np.array([[0, 0], [0, 0], [5, 5]])
    assert snake.SnakeEnv(6, 6, walls).cells == lesson.SnakeGames([0], 6, 6, walls).cells == 34
    assert snake.QuickGame(0, 6, 6, walls).cells == 34


def test_render_modes(snake):
    for mode in ("human", "ansi", 3):
        with pytest.raises(ValueError, match="want"):
            snake.SnakeEnv(6, 6, render_mode=mode)
    env = snake.SnakeEnv(6, 6, render_mode=None)
    env.reset(seed=0)
    assert env.render() is None
    env = snake.SnakeEnv(6, 6)
    with pytest.raises(ValueError, match="reset"):
        env.render()
    env.reset(seed=0)
    assert env.render(2).shape == (16, 16, 3)
    with pytest.raises(ValueError, match="cell"):
        env.render(0)


def test_actions(snake):
    env = snake.SnakeEnv(6, 6)
    with pytest.raises(ValueError, match="call reset first"):
        env.step(0)
    env.reset(seed=0)
    for wrong in (3, -1, 100, 0.5, 2.9, True, np.float32(1), float("inf"), "left", None):
        with pytest.raises(ValueError, match="want 0"):
            env.step(wrong)
    assert env.moves == 0
    env.step(np.int64(1))
    while not env.over:
        env.step(1)
    with pytest.raises(ValueError, match="call reset first"):    # a turn revives nobody
        env.step(0)
    env.reset()
    assert not env.step(1)[2]


def test_seeds(agent, snake):
    """NumPy's integers are as good as Python's; what is none is said."""
    score, frames = snake.play_episode(agent, 3, (6, 6))
    again, same = snake.play_episode(agent, np.int64(3), (6, 6))
    assert score == again and np.array_equal(frames, same)
    for wrong, error in ((-1, ValueError), ("a", TypeError), (1.5, TypeError), (None, TypeError)):
        with pytest.raises(error, match="got seed"):
            snake.play_episode(agent, wrong, (6, 6))
        if wrong is not None:
            with pytest.raises(error, match="got seed"):
                snake.SnakeEnv(6, 6).reset(seed=wrong)


@pytest.mark.parametrize("rows, columns, walls, games", [
    (5, 6, (), 250), (7, 5, WALLS, 250), (4, 4, (), 250), (4, 9, (), 250)])
def test_one_game_and_many_have_the_same_rules(snake, lesson, rows, columns, walls, games):
    """The same seeds and moves give the same views, rewards, ends and scores, step by step."""
    rng = np.random.default_rng(0)
    many = lesson.SnakeGames(range(games), rows, columns, walls)
    single = [snake.SnakeEnv(rows, columns, walls) for _ in range(games)]
    views = np.stack([env.reset(seed=seed)[0] for seed, env in enumerate(single)])
    ended = 0
    for _ in range(40):
        assert np.array_equal(lesson.observe(many), views)
        actions = rng.integers(0, 3, games)
        deadly = views[np.arange(games), actions, 0] > 0    # half of these are avoided
        actions = np.where(deadly & (rng.random(games) < 0.5), (actions + 1) % 3, actions)
        rewards, done, info = many.step(actions)
        for game, env in enumerate(single):
            view, reward, terminated, truncated, one = env.step(int(actions[game]))
            assert (reward, terminated, truncated) == (rewards[game], done[game], False)
            assert one == {"score": info["score"][game], "moves": info["moves"][game],
                           "cause": snake.CAUSES[info["cause"][game]]}
            assert env.food not in env.walls and (terminated or env.food not in env.body)
            if terminated:
                ended += 1
                view, _ = env.reset()
            views[game] = view
    assert ended > games    # in the four cases together, thousands of games are played


@pytest.mark.parametrize("rows, columns, walls", [
    (6, 6, ()), (5, 6, ()), (7, 5, WALLS), (4, 4, ()), (5, 7, ()), (12, 9, ()), (20, 20, ())])
def test_the_quick_game_is_the_same_game(snake, rows, columns, walls):
    """QuickGame and quick_view against SnakeEnv and observe, byte for byte, to the end."""
    rng, ends = np.random.default_rng(0), set()
    for seed in range(9):
        env, quick = snake.SnakeEnv(rows, columns, walls), snake.QuickGame(
            seed, rows, columns, walls)
        view, _ = env.reset(seed=seed)
        while not env.over and env.moves < 600:
            assert np.array_equal(snake.quick_view(quick), view)
            body = snake.cells_of(quick, quick.trail[:-quick.length - 1:-1]).tolist()
            assert [tuple(cell) for cell in body] == list(env.body)
            known = dict(zip(snake.FEATURES, np.int32(view).T))
            worth = known["nearer"] + 2 * known["safe"] - 2 * known["dead"]
            action = int((worth + seed % 3 * 300 * rng.random(3)).argmax())
            view, _, _, _, info = env.step(action)
            quick.step(action)
            assert info == {"score": quick.score, "moves": quick.moves, "cause": quick.cause}
        ends.add(info["cause"])
    assert len(ends) > 1 or rows * columns > 100


def test_the_quick_network_is_the_same(agent, snake):
    views = np.random.default_rng(0).integers(0, 256, (200, *snake.SnakeEnv(
        6, 6).observation_space.shape), np.uint8)
    think = snake.quick_q(agent)
    quick = np.array([think(view) for view in views])
    assert np.allclose(quick, snake.q_values(agent, views), atol=1e-4)
    assert (quick >= -1).all()
    other = torch.nn.Sequential(agent)    # of another class: asked as it is
    assert np.allclose(snake.quick_q(other)(views[0]), quick[0], atol=1e-4)


def test_a_full_board_is_won(snake, lesson):
    """The player on a cycle fills the board; SnakeEnv ends in the same way."""
    played = lesson.play_many(lesson.on_a_cycle, range(20), 6, 6)
    assert set(played["score"]) == {33} and set(played["cause"]) == {4}
    env, games = snake.SnakeEnv(6, 6), lesson.SnakeGames([5], 6, 6)
    env.reset(seed=5)
    over = False
    while not over:
        action = lesson.on_a_cycle(games)
        games.step(action)
        _, reward, over, _, info = env.step(int(action[0]))
    assert info["cause"] == "won" and reward == 1 and len(env.body) == 36


def test_hunger(snake):
    env = snake.SnakeEnv(8, 8)
    env.reset(seed=0)
    env.food = (0, 0)    # the snake turns on the spot in the middle
    for move in range(1, 10_000):
        _, reward, over, _, info = env.step(0)
        if over:
            break
    assert (info["cause"], reward, move) == ("starved", -1, snake.starvation_limit(64, 3))


def test_free_space(snake):
    """Room and tail of each move against a flood fill written here, on random positions."""
    rng, checked = np.random.default_rng(1), 0
    for seed in range(60):
        env = snake.SnakeEnv(7, 8)
        view, _ = env.reset(seed=seed)
        over = False
        while not over:
            tail = env.body[-1]
            for action in range(3):
                heading = (env.direction + action - 1) % 4
                head = tuple(int(x) for x in np.add(env.body[0], snake.STEPS[heading]))
                blocked = set(list(env.body)[:-1])
                inside = 0 <= head[0] < 7 and 0 <= head[1] < 8
                assert (view[action, 0] == 255) == (not inside or head in blocked)
                if view[action, 0]:
                    continue
                room, todo = {head}, [head]
                while todo:
                    row, column = todo.pop()
                    for place in ((row + 1, column), (row - 1, column), (row, column + 1),
                                  (row, column - 1)):
                        if (0 <= place[0] < 7 and 0 <= place[1] < 8 and place not in blocked
                                and place not in room):
                            room.add(place)
                            todo.append(place)
                row = dict(zip(snake.FEATURES, view[action].tolist()))
                free = 7 * 8 - len(env.body) + 1
                assert row["room"] == int(255 * len(room) / free)
                assert (row["food in room"] == 255) == (env.food in room)
                meets = tail in room
                if head != env.food:    # the tail moves on; its new cell may be met, too
                    new = env.body[-2]
                    meets |= any(abs(new[0] - r) + abs(new[1] - c) == 1 for r, c in room)
                assert (row["tail in room"] == 255) == meets
                checked += 1
            safe = np.flatnonzero(view[:, 0] == 0)
            action = rng.choice(safe) if len(safe) else 1
            view, _, over, _, _ = env.step(int(action))
    assert checked > 3000


# The functions to copy

def test_agent(agent, snake, tmp_path):
    views = torch.randint(0, 256, (5, 3, 35), dtype=torch.uint8)
    with torch.inference_mode():
        q = agent(views)
        assert torch.allclose(q[:1], agent(views[:1]), atol=1e-5)
    assert q.shape == (5, 3) and not agent.training
    assert (MODELS / "model.pth").stat().st_size <= 2e6
    with pytest.raises(FileNotFoundError, match="train.ipynb"):
        snake.load_agent(tmp_path / "none.pth")


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('the pickle ran')",)


def odd_weights(folder):
    """Files that hold no weights of this network, each by a name that says why."""
    good = (MODELS / "model.pth").read_bytes()
    state = torch.load(MODELS / "model.pth", map_location="cpu", weights_only=True)
    first, *_ = state
    for name, content in {
            "empty": b"", "text": b"no weights", "cut": good[:20_000], "noise": bytes(range(256)),
            "pickle": pickle.dumps(Evil(), protocol=2),
            "png": b"\x89PNG\r\n\x1a\n" + bytes(99)}.items():
        (folder / name).write_bytes(content)
    for name, content in {
            "nothing": {}, "list": [1, 2], "number": 3, "another": {"a": torch.zeros(3)},
            "missing": {k: v for k, v in state.items() if k != first},
            "more": state | {"more": torch.zeros(1)}, "whole": torch.nn.Linear(2, 2),
            "shape": state | {first: state[first][:, 1:]}, "none": state | {first: None},
            "flat": state | {first: torch.tensor(3.0)}}.items():
        torch.save(content, folder / name)
    return sorted(folder.iterdir())


def test_odd_weights(snake, tmp_path):
    for file in odd_weights(tmp_path):
        with pytest.raises(ValueError, match="git checkout") as error:
            snake.load_agent(file, "cpu")
        assert file.name in str(error.value) and "weights_only" not in str(error.value)
    for device in ("gpu", "", "meta", "cuda:99", 3.5):
        with pytest.raises(ValueError, match="device"):
            snake.load_agent(device=device)
    with pytest.raises(TypeError):
        snake.load_agent(3)
    with pytest.raises(FileNotFoundError):
        snake.load_agent(tmp_path)


def test_episode(agent, snake, lesson):
    """The same score as the many games at once; frames as promised; the same game each time."""
    score, frames = snake.play_episode(agent, 4, (8, 10))
    played = lesson.play_many(lesson.greedy(agent), [4], 8, 10)
    assert (score, len(frames) - 1) == (played["score"][0], played["moves"][0])
    assert frames.dtype == np.uint8 and frames.shape[1:] == (10, 12, 3)
    again, fewer = snake.play_episode(agent, 4, (8, 10), cell=5, every=10)
    assert again == score and fewer.shape[1:] == (50, 60, 3)
    assert len(fewer) == 1 + (len(frames) - 1) // 10


@pytest.mark.parametrize("wrong", [{"board": (3, 9)}, {"board": (9,)}, {"cell": 0},
                                   {"every": 0}, {"walls": [(8, 8)]}, {"cell": 10 ** 6},
                                   {"cell": 20, "memory": 10 ** 6}])
def test_episode_refuses(agent, snake, wrong):
    with pytest.raises(ValueError, match="want"):
        snake.play_episode(agent, 0, **{"board": (8, 8)} | wrong)


def test_frames_take_no_more_than_they_say(agent, snake):
    """The limit is that of the frames returned, to the byte, and a film has one, too."""
    _, frames = snake.play_episode(agent, 4, (8, 10), cell=3)
    assert frames.base is None and frames.flags.c_contiguous    # no view of something larger
    snake.play_episode(agent, 4, (8, 10), cell=3, memory=frames.nbytes)
    with pytest.raises(ValueError, match="MB"):
        snake.play_episode(agent, 4, (8, 10), cell=3, memory=frames.nbytes - 1)
    with pytest.raises(ValueError, match="MB"):
        snake.film(agent, 4, (8, 10), memory=10 ** 6)


def test_frames_are_what_the_game_draws(agent, snake):
    """Drawn after the game from the cells of the head, they equal those drawn in it."""
    for cell in (1, 2, 4):
        env = snake.SnakeEnv(7, 8, WALLS)
        view, _ = env.reset(seed=2)
        frames = [env.render(cell)]
        while not env.over:
            view, *_ = env.step(int(snake.q_values(agent, view).argmax()))
            frames.append(env.render(cell))
        drawn = snake.play_episode(agent, 2, (7, 8), cell, walls=WALLS)[1]
        assert np.array_equal(drawn, frames)


def test_a_game_is_fast(agent, snake):
    """3,000 moves a second on one core of ours; a fifth of it here, for slower machines. Frames
    that nobody asked for cost nothing."""
    game, think = snake.QuickGame(0, 20, 20), snake.quick_q(agent)
    begun = time.process_time()
    while game.cause == "alive" and game.moves < 1500:
        game.step(int(think(snake.quick_view(game)).argmax()))
    assert game.moves / (time.process_time() - begun) > 600


def test_one_thread_is_given_back(agent, snake, monkeypatch):
    """The games run on one thread, and the program that imports them keeps its own number."""
    seen, view = [], snake.quick_view

    def watch(*arguments):
        seen.append((torch.get_num_threads(), cv2.getNumThreads()))
        return view(*arguments)

    monkeypatch.setattr(snake, "quick_view", watch)
    before = torch.get_num_threads(), cv2.getNumThreads()
    try:
        torch.set_num_threads(2)
        cv2.setNumThreads(2)
        snake.film(agent, 0, (6, 6), moves=3)
        with pytest.raises(ValueError):
            snake.play_episode(agent, 0, (6, 6), cell=20, memory=10 ** 5)
        assert set(seen) == {(1, 1)} and (torch.get_num_threads(), cv2.getNumThreads()) == (2, 2)
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def test_film(agent, snake, tmp_path):
    pictures = snake.film(agent, 1, (6, 8), moves=12, cell=9)
    assert len(pictures) == 13 and pictures[0].shape == (72, 210, 3)
    snake.save_gif(pictures, tmp_path / "a.gif")
    snake.save_video(pictures, tmp_path / "a.mp4")
    assert (tmp_path / "a.gif").read_bytes()[:4] == b"GIF8"
    assert (tmp_path / "a.mp4").stat().st_size > 500
    with Image.open(tmp_path / "a.gif") as gif:    # the food is rare, and stays its colour
        assert gif.n_frames > 5
        for frame in range(gif.n_frames):
            gif.seek(frame)
            far = np.abs(np.asarray(gif.convert("RGB")).astype(int) - snake.FOOD).sum(2)
            assert (far < 30).sum() >= 10
    for wrong in ({"moves": 0}, {"every": 0}, {"cell": 0}, {"first": -1}):
        with pytest.raises(ValueError, match="want"):
            snake.film(agent, 1, (6, 8), **wrong)
    for save in (snake.save_gif, snake.save_video):
        with pytest.raises(ValueError, match="no pictures"):
            save([], tmp_path / "a")
    with pytest.raises(FileNotFoundError, match="missing"):
        snake.save_video(pictures, tmp_path / "missing" / "a.mp4")


@pytest.mark.parametrize("wrong", [
    "--board 2 2", "--seed -1", "--gif missing/a.gif", "--window", "--weights readme.md",
    "--weights missing.pth"])
def test_command_line_says_it_in_one_line(snake, monkeypatch, wrong):
    for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys, "argv", ["snake.py", *wrong.split()])
    with pytest.raises(SystemExit) as end:
        snake.main()
    assert end.value.code.startswith("snake.py: ") and "\n" not in end.value.code


def test_window(agent, snake, monkeypatch):
    """The window opens with SDL's dummy driver, obeys the keys, and closes."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    import pygame

    def press():
        while not pygame.display.get_surface():
            time.sleep(0.05)
        for key in (pygame.K_UP, pygame.K_SPACE, pygame.K_n, pygame.K_r, pygame.K_ESCAPE):
            time.sleep(0.3)
            pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key))

    threading.Thread(target=press, daemon=True).start()
    scores = snake.open_window(agent, 0, (8, 8), play=True, cell=8)
    assert len(scores) == 2


def test_quick_keys_all_count(agent, snake):
    """Two keys between two moves are two turns; one that is no turn takes no move."""
    table = snake.Table(agent, 0, (10, 10), True)
    start, you = table.envs[1].body[0], table.envs[1]
    for key in ("up", "up", "right", "down"):
        table.press(key)
    heads = []
    for _ in range(4):
        table.move()
        heads.append(tuple(np.subtract(you.body[0], start).tolist()))
    assert heads == [(-1, 0), (-1, 1), (0, 1), (1, 1)]
    assert not table.paused


def test_keys_of_the_window(agent, snake):
    table = snake.Table(agent, 0, (6, 6), True, speed=10)
    assert table.paused
    table.press("n")
    assert table.envs[0].moves == 1
    table.press("space")
    table.press("n")    # not while it plays
    assert not table.paused and table.envs[0].moves == 1
    for key in ("+", "=", "[+]"):
        table.press(key)
    assert table.speed == pytest.approx(33.75)
    for _ in range(20):
        table.press("-")
    assert table.speed == 1
    table.press("r")
    assert (table.seed, table.envs[0].moves, table.open) == (1, 0, True)
    table.press("escape")
    assert not table.open


def test_nothing_is_computed_between_moves(agent, snake, monkeypatch):
    """The pictures of one position ask the network once."""
    table, asked, ask = snake.Table(agent, 0, (8, 8), True), [], snake.q_values
    monkeypatch.setattr(snake, "q_values", lambda *a: asked.append(1) or ask(*a))
    for _ in range(3):
        snake.window_picture(table, 5)
    assert not asked
    table.move()
    assert len(asked) == 1


def test_no_screen(agent, snake, monkeypatch):
    for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(snake.sys, "platform", "linux")
    with pytest.raises(RuntimeError, match="no screen"):
        snake.open_window(agent)


def test_same_food_beside_the_agent(agent, snake):
    """Your k-th food lies where the agent's k-th lay, unless you lie there."""
    table = snake.Table(agent, 0, (10, 10), True)
    assert table.envs[0].food == table.envs[1].food == table.foods[0]
    while table.envs[0].score < 3:
        table.move()
    you = table.envs[1]
    you.reset(seed=0)
    for k in range(3):
        you.score = k
        snake.same_food(you, table.foods)
        assert you.food == table.foods[k] or table.foods[k] in you.body


# The published figure

def test_published_score_on_the_small_board(agent, lesson):
    """The 100 games on 10×10 again; other processors may round Q otherwise in a few."""
    published = json.loads((MODELS / "metrics.json").read_text(encoding="utf-8"))
    result = published["results"]["10x10"]
    mean = lesson.play_many(lesson.greedy(agent), range(result["n"]), 10, 10)["score"].mean()
    assert abs(mean - result["value"]) <= result["value"] - result["interval"][0]


def test_the_large_board(agent, lesson):
    """Four of the published games on 30×40, the first 1,500 moves: none has died early."""
    games = lesson.SnakeGames(range(4))
    for _ in range(1500):
        _, done, info = games.step(lesson.greedy(agent)(games))
        assert not done.any()
    assert info["score"].min() >= 20


# Learning

def test_replay(lesson):
    """n-step rewards and factors against a plain loop, also when the ring has gone round."""
    torch.manual_seed(0)
    replay, rng, told = lesson.Replay(20, 2), np.random.default_rng(0), []
    for step in range(50):
        reward, end = rng.random(2, np.float32), np.float32(rng.random(2) < 0.2)
        views = np.full((2, 3, 35), step, np.uint8)
        views[1] += 100
        replay.add(views, np.array([0, 1]), reward, end)
        told.append((reward, end))
    views, actions, rewards, factor, later = replay.sample(500, 3, 0.9)
    for view, r, f, after in zip(views[:, 0, 0], rewards, factor, later[:, 0, 0]):
        game, first = divmod(int(view), 100)
        expected, weight = 0.0, 1.0
        for reward, end in told[first:first + 3]:
            expected += weight * reward[game]
            weight *= 0.9 * (1 - end[game])
        assert first >= 30 and r == pytest.approx(expected, abs=1e-5)
        assert f == pytest.approx(weight, abs=1e-5) and after == view + 3
    assert torch.equal(actions, (views[:, 0, 0] >= 100).long())


def small_settings():
    return {"seed": 0, "hidden": 8, "learning_rate": 1e-3, "boards": [[8, 6, 6], [8, 5, 8]],
            "memory": 16 * 40, "steps": 16 * 80, "batch_size": 16, "n_step": 3, "gamma": 0.9,
            "epsilon_end": 0.1, "epsilon_steps": 800, "target_every": 10, "double": True,
            "loss": "huber", "reward_safe": 0.05, "long_starts": 0.5}


def small_training(lesson, folder, stop_at=None):
    """A training of 80 ticks; stop_at: KeyboardInterrupt there, as the stop button does."""
    with interrupted(lesson, "tick", stop_at):
        return lesson.train_agent(small_settings(), save_every=0.0, folder=folder,
                                  report=lambda line: None)


@pytest.mark.parametrize("stop_at", [5, 47])
def test_interrupted_training_ends_the_same(lesson, tmp_path, stop_at):
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    whole, history = small_training(lesson, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        small_training(lesson, tmp_path / "broken", stop_at)
    resumed, rows = small_training(lesson, tmp_path / "broken")
    assert len(history) == len(rows) == 20
    assert [row["loss"] for row in history[1:]] == [row["loss"] for row in rows[1:]]
    assert all(map(torch.equal, whole.state_dict().values(), resumed.state_dict().values()))
    assert [file.suffix for file in (tmp_path / "broken").iterdir()] == [".pth"]


def test_a_training_keeps_to_its_settings(lesson, tmp_path):
    """An unknown setting is an error; other settings have a checkpoint of their own."""
    for wrong in ({"gama": 0.9}, {"board": [6, 6]}):
        with pytest.raises(TypeError, match=next(iter(wrong))):
            lesson.train_agent(small_settings() | wrong)
    small_training(lesson, tmp_path)
    lesson.train_agent(small_settings() | {"gamma": 0.8, "steps": 16 * 20}, folder=tmp_path,
                       report=lambda line: None)
    assert len(list(tmp_path.glob("my_checkpoint_*.pth"))) == 2


def test_foreign_checkpoint_is_put_aside(lesson, tmp_path, capsys):
    small_training(lesson, tmp_path)
    file, = tmp_path.iterdir()
    file.write_bytes(b"not a checkpoint")
    small_training(lesson, tmp_path)
    assert file.with_name(file.name + ".broken").read_bytes() == b"not a checkpoint"
    assert "put aside" in capsys.readouterr().out
