"""What `wmkit surprise` runs: its changes, its episodes and who acts in them; no command of its own."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmkit.errors import UserError

from .assembly import controller_maker, resolve_planning, with_defaults

if TYPE_CHECKING:
    from wmkit.evaluation.agents import Agent
    from wmkit.evaluation.violation_episodes import Starts
    from wmkit.tasks import Task

    from .surprise import Surprise

__all__ = ["default_out", "make_episodes", "observed", "read_strengths"]

_STRENGTH = 0.5


def observed(model: Any) -> str:
    """Return the environment's `obs_type` for a model."""
    keys = set(model.spec.observations)
    if not keys <= {"pixels", "state"}:
        raise UserError(f"the model observes {', '.join(sorted(keys))}; the study knows pixels and state")
    return "pixels_state" if len(keys) == 2 else next(iter(keys))


def read_strengths(config: "Surprise", task: "Task", obs_type: str) -> dict[str, float]:
    """Return perturbation -> strength of every condition.

    Raises:
        UserError: a perturbation that is unknown or not supported here, or a strength out of range.
    """
    from ..envs.perturbations import PERTURBATIONS, PerturbedVectorEnv

    env = PerturbedVectorEnv(task.make_vector(num_envs=1, obs_type=obs_type), task)
    supported = tuple(env.names)
    env.close()
    given = dict(_number(text) for text in config.strength)
    wanted = [name for text in config.perturbations for name in text.split(",") if name] or list(supported)
    for name in [*wanted, *given]:
        if name not in supported:
            known = "not supported by" if name in PERTURBATIONS else "unknown to"
            raise UserError(f"perturbation {name!r} is {known} {task.name}; known there: {', '.join(supported)}")
    unused = [name for name in given if name not in wanted]
    if unused:
        raise UserError(f"--strength {unused[0]}: not among the --perturbations {' '.join(wanted)}")
    return {name: given.get(name, _STRENGTH) for name in dict.fromkeys(wanted)}


def _number(text: str) -> tuple[str, float]:
    """Read NAME=NUMBER."""
    name, _, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        raise UserError(f"--strength {text}: give NAME=NUMBER, e.g. weak-actuator=0.5") from None
    if not 0 < value <= 1:
        raise UserError(f"--strength {text}: give a number above 0 and up to 1")
    return name, value


def make_episodes(config: "Surprise", task: "Task", model: Any, folder: Path) -> "tuple[Starts, Agent, dict[str, Any]]":
    """Return the episodes, who acts in them, and what to save of that."""
    from wmkit.evaluation.violation_episodes import NoisyExpert, ResetStarts

    if task.has_goals:
        starts, about = _pairs(config, task, model, folder)
    else:
        if config.manifest is not None:
            raise UserError(f"--manifest: {task.name} has no goals, so no pairs of start and goal")
        starts, about = ResetStarts(config.episodes, config.steps, config.seed), {"steps_per_episode": config.steps}
    if config.policy == "model":
        agent, planning = _model_agent(config, task, model)
        return starts, agent, about | {"planning": planning}
    more, noise, expert = _expert(config, task)
    agent = NoisyExpert(task, observed(model), config.seed, noise, more)
    return starts, agent, about | {"expert": expert}


def _pairs(config: "Surprise", task: "Task", model: Any, folder: Path) -> "tuple[Starts, dict[str, Any]]":
    """Return held-out pairs, and what to save of them."""
    from wmkit.evaluation import save_manifest, suite
    from wmkit.evaluation.violation_episodes import PairStarts

    pairs = suite.obtain(
        task,
        config.protocol,
        config.episodes,
        seed=config.seed,
        data=config.data,
        path=config.manifest,
        folder=folder,
        training=getattr(model, "metadata", {}).get("data"),
    )
    manifest = pairs.manifest
    save_manifest(manifest, (config.out or default_out(config, folder, task)) / "manifest.json")
    return PairStarts(manifest), {
        "protocol": manifest.protocol,
        "rule": manifest.rule,
        "manifest": manifest.sha256,
        "fingerprint": manifest.fingerprint,
        "pairs_from": pairs.label,
    }


def _model_agent(config: "Surprise", task: "Task", model: Any) -> "tuple[Agent, dict[str, Any]]":
    """Return the model's controller as an agent, and its settings."""
    from wmkit.evaluation import ModelAgent

    if not task.has_goals:
        raise UserError(f"--policy model needs goals, which {task.name} has not; give --policy expert")
    planning = resolve_planning(getattr(model, "metadata", {}), {})
    maker = controller_maker(model, planning, config.seed)
    planning = with_defaults(planning, maker(1).planner)
    return ModelAgent(maker, "model", observed(model), shrink=planning["shrink"]), planning


def _expert(config: "Surprise", task: "Task") -> tuple[tuple[Any, ...], float, dict[str, Any]]:
    """Return the expert's further arguments, its noise, and what to save of both.

    Raises:
        UserError: an unknown reward or quality.
    """
    reward, quality, noise = config.reward, config.quality, config.noise
    if config.data is not None:
        from wmkit.data.episodes import EpisodeStore

        about = EpisodeStore.open(config.data).metadata
        reward, quality = reward or about.reward or None, quality or about.quality or None
        noise = about.noise if noise is None else noise
    noise = noise or 0.0
    if not task.rewards:
        return (), noise, {"noise": noise}
    reward, quality = reward or next(iter(task.rewards)), quality or next(iter(task.qualities), None)
    if reward not in task.rewards:
        raise UserError(f"unknown --reward {reward!r} of {task.name}; known: {', '.join(task.rewards)}")
    if quality is None:
        return (reward, 1.0), noise, {"noise": noise, "reward": reward}
    if quality not in task.qualities:
        raise UserError(f"unknown --quality {quality!r} of {task.name}; known: {', '.join(task.qualities)}")
    middle = sum(task.qualities[quality]) / 2
    return (reward, middle), noise, {"noise": noise, "reward": reward, "quality": quality}


def default_out(config: "Surprise", folder: Path, task: "Task") -> Path:
    """Return where results go."""
    name = f"{task.name}-{config.protocol if task.has_goals else config.policy}"
    if Path(config.model).is_dir():
        return folder / "surprise" / name
    return Path("runs") / "surprise" / config.model.replace(":", "-").replace("/", "-") / name
