"""Answering many questions in a job: one after another in one thread, without a request, a place in the queue and a parse for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from api.asking import Asking
from api.engines import Engines
from api.jobs import Steps
from api.schemas import Json
from api.work import Way
from rag.errors import InputError, ModelError
from rag.meter import Meter
from rag.power import Power
from rag.wire import answer_json, measurement_json


@dataclass(frozen=True, slots=True)
class Batch:
    """Questions by id, and how they are answered."""

    collection: str
    way: Way
    questions: Sequence[tuple[str | int, Asking]]

    def run(self, engines: Engines, power: Power, steps: Steps, meter: Meter) -> Json:
        """Answer all of them; the same question is answered once.

        Args:
            engines: Lends the engine; all answers are of one version.
            power: Prices each answer.
            steps: Told of every answer.
            meter: Of the job.

        Returns:
            ``results`` in the order of the questions, each with its ``id`` and an answer or an ``error``, the version, and the
            measurement of the whole.
        """
        results: list[Json] = []
        answered: dict[str, Json] = {}
        with engines.engine(self.collection, self.way.generator) as engine:
            steps.begin("answer", len(self.questions))
            for question_id, asking in self.questions:
                key = repr(asking)
                found = answered.get(key)
                if found is None:
                    try:
                        found = answer_json(asking.answered(engine, self.way, Meter("thread", power=power)))
                    except (InputError, ModelError) as error:
                        found = {"error": {"code": error.code, "message": " ".join(str(error).split())}}
                    answered[key] = found
                results.append({"id": question_id} | found)
                steps.advance()
            version = next((found["version"] for found in answered.values() if "version" in found), 0)
        return {
            "collection": self.collection,
            "version": version,
            "n_failed": sum("error" in result for result in results),
            "results": results,
            "measurement": measurement_json(meter.finish()),
        }
