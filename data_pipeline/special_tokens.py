"""The tokens that give a text its structure: reserved in every vocabulary we train, from the first day of pretraining.

Only the protocol writes them, and by id. Text that merely looks like one ("<|user_start|>" in a web page) is encoded as
ordinary text, always: a document, a user or a tool must not be able to forge a turn.
"""

DOCUMENT_START = "<|document_start|>"
SYSTEM_START = "<|system_start|>"
USER_START = "<|user_start|>"
ASSISTANT_START = "<|assistant_start|>"
END_OF_TURN = "<|end_of_turn|>"
THINKING_START = "<|thinking_start|>"
THINKING_END = "<|thinking_end|>"
TOOL_CALL_START = "<|tool_call_start|>"
TOOL_CALL_END = "<|tool_call_end|>"
TOOL_RESULT_START = "<|tool_result_start|>"
TOOL_RESULT_END = "<|tool_result_end|>"

# Their order fixes their ids in a trained vocabulary: append, never reorder.
SPECIAL_TOKENS = (
    DOCUMENT_START,
    SYSTEM_START,
    USER_START,
    ASSISTANT_START,
    END_OF_TURN,
    THINKING_START,
    THINKING_END,
    TOOL_CALL_START,
    TOOL_CALL_END,
    TOOL_RESULT_START,
    TOOL_RESULT_END,
)
