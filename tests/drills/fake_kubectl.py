#!/usr/bin/env python3
"""Stands for kubectl: two local node processes are its pods. TWINLOG_FAKE_PODS names the directory that says where they are.

    DIR/pods.json     pod -> {port, pid, command}: what `delete pod` kills and, as a StatefulSet would, starts anew
    DIR/client.key    what `get secret` hands out

Knows the calls that ops/drills/targets/kubernetes.py makes, and refuses all others.
"""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

DIRECTORY = Path(os.environ["TWINLOG_FAKE_PODS"])


def main(words):
    pods = json.loads((DIRECTORY / "pods.json").read_text())
    if words[:2] == ["get", "secret"]:
        sys.stdout.write(base64.b64encode((DIRECTORY / "client.key").read_bytes()).decode())
    elif words[:2] == ["get", "pod"]:
        sys.stdout.write(json.dumps({"metadata": {"name": words[2]}, "status": {"phase": "Running"}}))
    elif words[0] == "port-forward":
        forward(int(words[-1].partition(":")[0]), pods[words[3].removeprefix("pod/")]["port"])
    elif words[:2] == ["delete", "pod"]:
        pod = pods[words[2]]
        os.killpg(pod["pid"], signal.SIGKILL)
        with (DIRECTORY / f"{words[2]}.log").open("ab") as log:
            fresh = subprocess.Popen(pod["command"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=pod["directory"], start_new_session=True)
        pod["pid"] = fresh.pid
        (DIRECTORY / "pods.json").write_text(json.dumps(pods))
    elif words[0] == "logs":
        sys.stdout.write((DIRECTORY / f"{words[1]}.log").read_text())
    elif words[0] != "exec":
        sys.exit(f"fake kubectl: {words}")


def forward(near_port, far_port):
    """As `kubectl port-forward` does: until the pod is gone, then it ends."""
    listener = socket.create_server(("127.0.0.1", near_port))
    while True:
        near, _ = listener.accept()
        try:
            far = socket.create_connection(("127.0.0.1", far_port))
        except OSError:
            sys.exit("lost connection to pod")
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=pump, args=(source, sink), daemon=True).start()


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


if __name__ == "__main__":
    main(sys.argv[1:])
