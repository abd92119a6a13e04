"""An S3 server that checks signatures and rights, and a client beside ours, for the tests: moto and boto3.

s3.py serve PORT FILE: serves on loopback; makes the bucket `switchboard` and a user that may use it, and writes the
user's two keys to FILE, a line each. s3.py ask PORT ACCESS_KEY SECRET_KEY list | put NAME CONTENT: asks that server.
Over TLS where S3_TLS names a directory with cert.pem, key.pem and authority.pem.
"""

import functools
import json
import os
import sys

import boto3

TLS = os.environ.get("S3_TLS")


def client(kind, port, access_key, secret_key):
    return boto3.client(
        kind,
        endpoint_url=f"{'https' if TLS else 'http'}://127.0.0.1:{port}",
        verify=f"{TLS}/authority.pem" if TLS else None,
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
    )


def serve(port, file):
    from moto import settings
    from moto.moto_server import threaded_moto_server
    from moto.server import ThreadedMotoServer

    if TLS:
        # It has no setting for that.
        threaded_moto_server.make_server = functools.partial(
            threaded_moto_server.make_server, ssl_context=(f"{TLS}/cert.pem", f"{TLS}/key.pem")
        )
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=int(port))
    server.start()
    client("s3", port, "root", "root").create_bucket(Bucket="switchboard")
    iam = client("iam", port, "root", "root")
    iam.create_user(UserName="switchboard")
    statement = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName="switchboard", PolicyName="all", PolicyDocument=policy)
    key = iam.create_access_key(UserName="switchboard")["AccessKey"]
    # From the next request on, whoever has no right is refused.
    settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
    with open(f"{file}.part", "w") as kept:
        kept.write(f"{key['AccessKeyId']}\n{key['SecretAccessKey']}\n")
    os.rename(f"{file}.part", file)
    server._thread.join()


def ask(port, access_key, secret_key, what, *rest):
    s3 = client("s3", port, access_key, secret_key)
    if what == "put":
        name, content = rest
        s3.put_object(Bucket="switchboard", Key=name, Body=content.encode())
        return
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket="switchboard"):
        for found in page.get("Contents", []):
            print(found["Key"])


{"serve": serve, "ask": ask}[sys.argv[1]](*sys.argv[2:])
