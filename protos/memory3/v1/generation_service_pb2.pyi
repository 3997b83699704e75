from . import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FinishReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINISH_REASON_UNSPECIFIED: _ClassVar[FinishReason]
    FINISH_REASON_STOP: _ClassVar[FinishReason]
    FINISH_REASON_LENGTH: _ClassVar[FinishReason]
FINISH_REASON_UNSPECIFIED: FinishReason
FINISH_REASON_STOP: FinishReason
FINISH_REASON_LENGTH: FinishReason

class GenerateRequest(_message.Message):
    __slots__ = ("collection", "prompt", "question", "max_tokens", "memories", "temperature", "top_p", "top_k", "seed", "stop", "filter", "explain")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MEMORIES_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    collection: str
    prompt: str
    question: str
    max_tokens: int
    memories: int
    temperature: float
    top_p: float
    top_k: int
    seed: int
    stop: _containers.RepeatedScalarFieldContainer[str]
    filter: str
    explain: bool
    def __init__(self, collection: _Optional[str] = ..., prompt: _Optional[str] = ..., question: _Optional[str] = ..., max_tokens: _Optional[int] = ..., memories: _Optional[int] = ..., temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., top_k: _Optional[int] = ..., seed: _Optional[int] = ..., stop: _Optional[_Iterable[str]] = ..., filter: _Optional[str] = ..., explain: _Optional[bool] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("recalled", "text", "finished", "explained", "explaining")
    RECALLED_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    EXPLAINED_FIELD_NUMBER: _ClassVar[int]
    EXPLAINING_FIELD_NUMBER: _ClassVar[int]
    recalled: Recalled
    text: str
    finished: Finished
    explained: Explained
    explaining: _types_pb2.Progress
    def __init__(self, recalled: _Optional[_Union[Recalled, _Mapping[str, object]]] = ..., text: _Optional[str] = ..., finished: _Optional[_Union[Finished, _Mapping[str, object]]] = ..., explained: _Optional[_Union[Explained, _Mapping[str, object]]] = ..., explaining: _Optional[_Union[_types_pb2.Progress, _Mapping[str, object]]] = ...) -> None: ...

class Recalled(_message.Message):
    __slots__ = ("chunk", "memories", "missing_shards", "unread")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    MEMORIES_FIELD_NUMBER: _ClassVar[int]
    MISSING_SHARDS_FIELD_NUMBER: _ClassVar[int]
    UNREAD_FIELD_NUMBER: _ClassVar[int]
    chunk: int
    memories: _containers.RepeatedCompositeFieldContainer[_types_pb2.Hit]
    missing_shards: _containers.RepeatedScalarFieldContainer[int]
    unread: _containers.RepeatedCompositeFieldContainer[_types_pb2.Hit]
    def __init__(self, chunk: _Optional[int] = ..., memories: _Optional[_Iterable[_Union[_types_pb2.Hit, _Mapping[str, object]]]] = ..., missing_shards: _Optional[_Iterable[int]] = ..., unread: _Optional[_Iterable[_Union[_types_pb2.Hit, _Mapping[str, object]]]] = ...) -> None: ...

class Explained(_message.Message):
    __slots__ = ("chunks",)
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    chunks: _containers.RepeatedCompositeFieldContainer[ChunkExplanation]
    def __init__(self, chunks: _Optional[_Iterable[_Union[ChunkExplanation, _Mapping[str, object]]]] = ...) -> None: ...

class ChunkExplanation(_message.Message):
    __slots__ = ("chunk", "recalled", "read", "context_mass")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    RECALLED_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_MASS_FIELD_NUMBER: _ClassVar[int]
    chunk: int
    recalled: _containers.RepeatedCompositeFieldContainer[_types_pb2.Hit]
    read: _containers.RepeatedCompositeFieldContainer[ReadMemory]
    context_mass: float
    def __init__(self, chunk: _Optional[int] = ..., recalled: _Optional[_Iterable[_Union[_types_pb2.Hit, _Mapping[str, object]]]] = ..., read: _Optional[_Iterable[_Union[ReadMemory, _Mapping[str, object]]]] = ..., context_mass: _Optional[float] = ...) -> None: ...

class ReadMemory(_message.Message):
    __slots__ = ("hit", "mass", "log_probability_loss")
    HIT_FIELD_NUMBER: _ClassVar[int]
    MASS_FIELD_NUMBER: _ClassVar[int]
    LOG_PROBABILITY_LOSS_FIELD_NUMBER: _ClassVar[int]
    hit: _types_pb2.Hit
    mass: float
    log_probability_loss: float
    def __init__(self, hit: _Optional[_Union[_types_pb2.Hit, _Mapping[str, object]]] = ..., mass: _Optional[float] = ..., log_probability_loss: _Optional[float] = ...) -> None: ...

class Finished(_message.Message):
    __slots__ = ("reason", "tokens", "seconds")
    class SecondsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    REASON_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    reason: FinishReason
    tokens: int
    seconds: _containers.ScalarMap[str, float]
    def __init__(self, reason: _Optional[_Union[FinishReason, str]] = ..., tokens: _Optional[int] = ..., seconds: _Optional[_Mapping[str, float]] = ...) -> None: ...

class WriteRequest(_message.Message):
    __slots__ = ("collection", "keys")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    collection: str
    keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, collection: _Optional[str] = ..., keys: _Optional[_Iterable[str]] = ...) -> None: ...

class WriteResponse(_message.Message):
    __slots__ = ("written", "remaining")
    WRITTEN_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    written: int
    remaining: int
    def __init__(self, written: _Optional[int] = ..., remaining: _Optional[int] = ...) -> None: ...
