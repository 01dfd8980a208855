"""The peer of `benchmarks.suites_load`: users of Locust's quickest client, posting the same body.

One endless task, as Locust's own documentation has it for the most requests a second.
"""

from locust import FastHttpUser, task

from benchmarks.payload import BODY


class Poster(FastHttpUser):
    @task
    def post(self) -> None:
        while True:
            self.client.post("/in", data=BODY, headers={"Content-Type": "application/json"})
