"""The events of a generation to protobuf messages and back."""

from ..answers import ChunkExplanation, Explained, Explaining, Finished, GenerationEvent, ReadMemory, Recalled, Text
from ..protos.memory3.v1 import generation_service_pb2 as pb
from .convert import hit_from_wire, hit_to_wire, progress_to_wire


def event_to_wire(event: GenerationEvent) -> pb.GenerateResponse:
    if isinstance(event, Text):
        return pb.GenerateResponse(text=event.text)
    if isinstance(event, Recalled):
        memories = [hit_to_wire(hit) for hit in event.memories]
        unread = [hit_to_wire(hit) for hit in event.unread]
        recalled = pb.Recalled(chunk=event.chunk, memories=memories, missing_shards=event.missing_shards, unread=unread)
        return pb.GenerateResponse(recalled=recalled)
    if isinstance(event, Explaining):
        return pb.GenerateResponse(explaining=progress_to_wire(event.done, event.total))
    if isinstance(event, Explained):
        explained = pb.Explained(chunks=map(explanation_to_wire, event.chunks))
        return pb.GenerateResponse(explained=explained)
    reason = pb.FINISH_REASON_STOP if event.reason == "stop" else pb.FINISH_REASON_LENGTH
    finished = pb.Finished(reason=reason, tokens=event.tokens, seconds=dict(event.seconds))
    return pb.GenerateResponse(finished=finished)


def event_from_wire(response: pb.GenerateResponse) -> GenerationEvent | None:
    """The event, or None for one of a newer release that this one does not know."""
    kind = response.WhichOneof("event")
    if kind == "text":
        return Text(response.text)
    if kind == "recalled":
        recalled = response.recalled
        memories = tuple(hit_from_wire(hit) for hit in recalled.memories)
        unread = tuple(hit_from_wire(hit) for hit in recalled.unread)
        return Recalled(recalled.chunk, memories, tuple(recalled.missing_shards), unread)
    if kind == "explaining":
        return Explaining(response.explaining.done, response.explaining.total)
    if kind == "explained":
        return Explained(tuple(map(explanation_from_wire, response.explained.chunks)))
    if kind == "finished":
        finished = response.finished
        reason = finished.reason == pb.FINISH_REASON_LENGTH
        return Finished("length" if reason else "stop", finished.tokens, dict(finished.seconds))
    return None


def explanation_to_wire(chunk: ChunkExplanation) -> pb.ChunkExplanation:
    return pb.ChunkExplanation(
        chunk=chunk.chunk,
        recalled=map(hit_to_wire, chunk.recalled),
        read=map(read_memory_to_wire, chunk.read),
        context_mass=chunk.context_mass,
    )


def explanation_from_wire(chunk: pb.ChunkExplanation) -> ChunkExplanation:
    return ChunkExplanation(
        chunk=chunk.chunk,
        recalled=tuple(map(hit_from_wire, chunk.recalled)),
        read=tuple(map(read_memory_from_wire, chunk.read)),
        context_mass=chunk.context_mass,
    )


def read_memory_to_wire(memory: ReadMemory) -> pb.ReadMemory:
    return pb.ReadMemory(
        hit=hit_to_wire(memory.hit), mass=memory.mass, log_probability_loss=memory.log_probability_loss
    )


def read_memory_from_wire(memory: pb.ReadMemory) -> ReadMemory:
    loss = memory.log_probability_loss if memory.HasField("log_probability_loss") else None
    return ReadMemory(hit_from_wire(memory.hit), memory.mass, loss)
