"""Errors of an exchange between processes are told from errors of this process, and each keeps its reason."""

import pytest
import torch.distributed as dist

from unclip.errors import TrainingError
from unclip.training.distributed import connection_errors

BROKEN = {
    "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4242": (
        "Connection closed by peer [127.0.0.1]:4242"
    ),
    "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Read error [10.0.0.1]:31: Connection reset by peer": (
        "Read error [10.0.0.1]:31: Connection reset by peer"
    ),
    "[unbound_buffer.cc:84] Timed out waiting 1800000ms for recv operation to complete": (
        "Timed out waiting 1800000ms for recv operation to complete"
    ),
    "NCCL error in: ProcessGroupNCCL.cpp:1, remote process exited or there was a network error, NCCL version 2.27\n"
    "ncclRemoteError: A call failed possibly due to a network error": (
        "NCCL error in: ProcessGroupNCCL.cpp:1, remote process exited or there was a network error, NCCL version 2.27"
    ),
    "wait timeout after 300000ms, keys: /default_pg/0": "wait timeout after 300000ms, keys: /default_pg/0",
}
OWN = [
    "NCCL error in: ProcessGroupNCCL.cpp:77, unhandled cuda error, NCCL version 2.27\nCuda failure 2 'out of memory'",
    "NCCL error: invalid usage. Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 81000",
    "NCCL version mismatch: 2.26 and 2.27",
    "gloo does not support bfloat16 reductions",
    "CUDA out of memory. Tried to allocate 2.00 GiB",
    "The size of tensor a (3) must match the size of tensor b (4) at non-singleton dimension 0",
]
KINDS = [RuntimeError, dist.DistBackendError]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", BROKEN)
def test_a_lost_connection_is_one_line_with_its_reason(kind: type[RuntimeError], text: str) -> None:
    with pytest.raises(TrainingError) as caught, connection_errors():
        raise kind(text)
    assert str(caught.value) == (
        f"another process of the run has ended or does not answer ({BROKEN[text]}); give the same command again, which "
        "resumes from the newest checkpoint."
    )


def test_a_store_that_is_gone_is_a_lost_connection() -> None:
    with pytest.raises(TrainingError, match=r"does not answer \(sendBytes failed\)"), connection_errors():
        raise dist.DistNetworkError("sendBytes failed")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", OWN)
def test_errors_of_this_process_stay_what_they_are(kind: type[RuntimeError], text: str) -> None:
    error = kind(text)
    with pytest.raises(kind) as caught, connection_errors():
        raise error
    assert caught.value is error
