import pyarrow as pa

__version__: str
BUILD_PROFILE: str

def parse_text(
    chunk: bytes, spec: str, *, last: bool, first_line: int
) -> tuple[pa.RecordBatch, int, int, int]: ...
def parse_binance(
    chunk: bytes, *, clock: str, last: bool, first_line: int
) -> tuple[pa.RecordBatch, int, int, int]: ...
