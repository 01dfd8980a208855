// A server of the frames in docs/packs/agent-events.md, on Node.js's `ws`.
// node agent_events.js PORT - prints a line when it listens; PORT 0 is any.
"use strict";
const { WebSocketServer } = require("ws");

const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const users = new Map();

class Interrupted extends Error {}

// What happened to one user, who is listening to it, and the runs of agents.
class User {
  constructor(name) {
    Object.assign(this, { name, events: [], listeners: new Set(), runs: new Map() });
  }
  add(event) {
    const cursor = this.events.length + 1;
    this.events.push(JSON.stringify({ ...event, user: this.name, cursor, at: new Date().toISOString() }));
    this.listeners.forEach((listener) => listener.flush());
  }
}

class Run {
  constructor(user, { run, agent, tools = [] }) {
    Object.assign(this, { user, run, agent, tools, done: 0, seq: 0, isWorking: false });
  }
  tell(type, more) {
    this.user.add({ type, run: this.run, agent: this.agent, seq: ++this.seq, ...more });
  }
  begin() {
    const stopped = new Promise((_, stop) => (this.stop = () => stop(new Interrupted())));
    stopped.catch(() => {});
    const answered = new Promise((answer) => (this.answer = answer));
    this.isWorking = true;
    return this.work(stopped, answered);
  }
  async work(stopped, answered) {
    let outcome = "done";
    this.tell("agent_started", { resumed: this.seq > 0 });
    if (!this.tools.length) this.tell("agent_thinking", { thought: "nothing to do" });
    while (this.done < this.tools.length && outcome === "done") {
      const { tool, ms = 2, fails = false, waits = false } = this.tools[this.done];
      const call = this.done + 1;
      this.tell("agent_thinking", { thought: `${tool} is next` });
      this.tell("tool_executing", { tool, call });
      try {
        if (waits) await Promise.race([answered, stopped]);
        await Promise.race([pause(ms), stopped]);
        this.tell("tool_completed", { tool, call, outcome: fails ? "failed" : "ok" });
        if (fails) outcome = "failed";
        else this.done++;
      } catch (error) {
        if (!(error instanceof Interrupted)) throw error;
        this.tell("tool_completed", { tool, call, outcome: "cancelled" });
        outcome = "interrupted";
      }
    }
    this.isWorking = false;
    this.tell("agent_completed", { outcome });
  }
}

class Listener {
  constructor(socket) {
    Object.assign(this, { socket, user: null, seen: 0, credit: Infinity });
  }
  say(frame) {
    this.socket.send(JSON.stringify(frame));
  }
  flush() {
    while (this.credit > 0 && this.seen < this.user.events.length) {
      this.credit--;
      this.socket.send(this.user.events[this.seen++]);
    }
  }
  run({ run }) {
    const found = this.user.runs.get(run);
    if (!found) throw ["unknown_run", run];
    return found;
  }
  hear(frame) {
    const heard = {
      hello: ({ user, after, credit = Infinity }) => {
        if (!users.has(user)) users.set(user, new User(user));
        this.user = users.get(user);
        Object.assign(this, { seen: after ?? this.user.events.length, credit });
        this.say({ type: "ready", user, cursor: this.seen });
        this.user.listeners.add(this);
        this.flush();
      },
      start: () => {
        const run = new Run(this.user, frame);
        this.user.runs.set(frame.run, run);
        run.begin();
      },
      answer: () => this.run(frame).answer(),
      interrupt: () => this.run(frame).stop(),
      resume: () => this.run(frame).begin(),
      credit: ({ n }) => {
        this.credit += n;
        this.flush();
      },
    }[frame.type];
    if (!heard) throw ["unknown_type", frame.type];
    heard(frame);
  }
}

function hearing(listener, data) {
  let frame = null;
  try {
    try {
      frame = JSON.parse(data);
    } catch {
      throw ["not_json", "frames are JSON objects"];
    }
    listener.hear(frame);
  } catch (error) {
    if (!Array.isArray(error)) throw error;
    listener.say({ type: "error", code: error[0], detail: String(error[1]), ref: frame?.ref ?? null });
  }
}

const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2]) });
server.on("connection", (socket) => {
  const listener = new Listener(socket);
  socket.on("message", (data) => hearing(listener, data.toString()));
  socket.on("close", () => listener.user?.listeners.delete(listener));
  socket.on("error", () => {});
});
server.on("listening", () => console.log(`listening ${server.address().port}`));
