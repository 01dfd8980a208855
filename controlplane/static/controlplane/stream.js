// The live stream: subscribes over the page's line, shows the newest rows, goes on from its cursor after a cut.
// Credit is given back as rows are shown, so a busy stream waits for the page and not the other way round.
"use strict";

(() => {
  const MOST_ROWS = 200;
  const CREDIT = 100;
  const BEHIND_MS = 5000;
  const UNITS = ["B", "KiB", "MiB", "GiB"];
  const pad = (number, width = 2) => String(number).padStart(width, "0");

  function size(count) {
    let value = count;
    for (const unit of UNITS) {
      if (value < 1024 || unit === "GiB") return unit === "B" ? `${value} B` : `${value.toFixed(1)} ${unit}`;
      value /= 1024;
    }
  }

  function start(page) {
    const find = (name) => document.getElementById(`cp-stream-${name}`);
    const [form, error, state, rows, empty] = ["filters", "error", "state", "rows", "empty"].map(find);
    const [pauseButton, nowButton, clearButton] = ["pause", "now", "clear"].map(find);
    const table = rows.closest("table");
    const messageUrl = page.dataset.messageUrl;
    const canHover = matchMedia("(hover: hover)");

    let socket = null;
    let subscription = 0; // its number; what an older one still sends is passed over
    let cursor = null;
    let filter = {};
    let paused = false;
    let waitMs = 500;
    let waiting = []; // events that came and are not shown yet: never more than the credit given
    let scheduled = false;
    let skewMs = Infinity; // how far the server's clock seems to be behind this one
    let behindMs = 0;

    const say = (frame) => socket && socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify(frame));

    function show(word, text) {
      state.dataset.state = word;
      if (state.lastElementChild.textContent !== text) state.lastElementChild.textContent = text;
    }

    function tell() {
      if (!socket || socket.readyState !== WebSocket.OPEN || paused || !error.hidden) return;
      const held = waiting.length && isHeld();
      const behind = !held && behindMs > BEHIND_MS;
      nowButton.hidden = !behind;
      if (held) show("held", `Held while you point at a row, ${waiting.length} new`);
      else if (behind) show("held", `${Math.round(behindMs / 1000)} s behind`);
      else show("live", "Live");
    }

    function complain(text) {
      error.textContent = text.replaceAll("filter.", "").replaceAll("_", " ");
      error.hidden = !text;
      form.elements.event_type.toggleAttribute("aria-invalid", false);
      if (text.includes("event_type")) form.elements.event_type.setAttribute("aria-invalid", "true");
      if (text) show("off", "Not following");
      fill();
    }

    function subscribe() {
      waiting = [];
      subscription += 1;
      say({ type: "subscribe", id: `s${subscription}`, filter, after: cursor, credit: CREDIT });
    }

    function unsubscribe() {
      say({ type: "unsubscribe", id: `s${subscription}` });
      subscription += 1;
      waiting = [];
    }

    const taken = {
      subscribed(frame) {
        cursor = frame.cursor;
        waitMs = 500;
        complain("");
        tell();
      },
      event(frame) {
        waiting.push(frame);
        schedule();
      },
      error(frame) {
        if (["cursor_expired", "unknown_cursor"].includes(frame.code)) {
          cursor = frame.oldest || null; // what it pointed at is gone, so go on from what there is
          subscribe();
        } else complain(frame.detail);
      },
    };

    function connect() {
      const scheme = location.protocol === "https:" ? "wss" : "ws";
      socket = new WebSocket(`${scheme}://${location.host}/ws/v1/live/stream/`);
      socket.onopen = () => paused || subscribe();
      socket.onmessage = (message) => {
        const frame = JSON.parse(message.data);
        if (frame.id === `s${subscription}` && taken[frame.type]) taken[frame.type](frame);
      };
      socket.onclose = (event) => {
        socket = null;
        waiting = []; // they come again, from the cursor of the last one shown
        nowButton.hidden = true;
        if (event.code === 4401 || event.code === 4403) {
          show("off", "Signed out");
          return;
        }
        if (!paused) show("off", "Reconnecting");
        setTimeout(connect, waitMs);
        waitMs = Math.min(waitMs * 2, 15000);
      };
    }

    // Rows do not move away under a pointer, or from under the keyboard.
    const isHeld = () => (canHover.matches && rows.matches(":hover")) || rows.contains(document.activeElement);

    function schedule() {
      if (scheduled) return;
      scheduled = true;
      // Not while the page is hidden: then nothing is shown, no credit given back, and the stream waits.
      requestAnimationFrame(() => {
        scheduled = false;
        draw();
      });
    }

    function draw() {
      if (waiting.length && !isHeld()) {
        const shown = waiting;
        waiting = [];
        const fragment = document.createDocumentFragment();
        for (const frame of shown) fragment.prepend(row(frame.message));
        rows.prepend(fragment);
        while (rows.children.length > MOST_ROWS) rows.lastElementChild.remove();
        const last = shown[shown.length - 1];
        cursor = last.cursor;
        const ago = Date.now() - Date.parse(last.message.created_at);
        skewMs = Math.min(skewMs, ago);
        behindMs = ago - skewMs;
        say({ type: "credit", id: `s${subscription}`, n: shown.length });
        fill();
      }
      tell();
    }

    function fill() {
      const some = rows.children.length > 0;
      table.hidden = clearButton.hidden = !some;
      empty.hidden = some || !error.hidden;
    }

    function row(message) {
      const made = document.getElementById("cp-stream-row").content.cloneNode(true);
      const cell = (name) => made.querySelector(`[data-cell=${name}]`);
      const put = (name, text) => (cell(name).textContent = text);
      put("name", message.event_type || message.message_type);
      cell("name").href = `${messageUrl}${message.position}/change/`;
      put("id", message.message_id);
      cell("id").title = message.message_id;
      put("from", message.source_system);
      put("to", receivers(message));
      put("type", message.message_type);
      put("size", size(message.size));
      const at = new Date(message.created_at);
      put("at", `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}.${pad(at.getMilliseconds(), 3)}`);
      cell("at").dateTime = message.created_at;
      cell("at").title = `${message.created_at.replace("T", " ").replace("Z", "")} UTC`;
      return made;
    }

    function receivers(message) {
      if (message.unrouted) return "nobody (unrouted)";
      const named = message.target_system;
      if (named === "*") return "everybody";
      if (Array.isArray(named)) return named.length > 3 ? `${named.slice(0, 2).join(", ")} and ${named.length - 2} more` : named.join(", ");
      return named || "by routes";
    }

    function read() {
      filter = {};
      for (const [name, value] of new FormData(form)) if (value.trim()) filter[name] = value.trim();
    }

    function fresh() {
      cursor = null;
      behindMs = 0;
      rows.replaceChildren();
      fill();
      complain("");
      unsubscribe();
      if (!paused) subscribe();
    }

    form.addEventListener("submit", (event) => {
      event.preventDefault();
      read();
      history.replaceState(null, "", `?${new URLSearchParams(filter)}`);
      fresh();
    });
    for (const select of form.querySelectorAll("select")) select.addEventListener("change", () => form.requestSubmit());

    pauseButton.addEventListener("click", () => {
      paused = !paused;
      pauseButton.setAttribute("aria-pressed", String(paused));
      pauseButton.querySelector("[data-label]").textContent = paused ? "Go on" : "Pause";
      pauseButton.querySelector(".material-symbols-outlined").textContent = paused ? "play_arrow" : "pause";
      if (paused) {
        draw();
        unsubscribe();
        nowButton.hidden = true;
        show("held", "Paused");
      } else if (socket && socket.readyState === WebSocket.OPEN) subscribe();
      else show("off", "Reconnecting");
    });
    nowButton.addEventListener("click", () => {
      unsubscribe();
      cursor = null;
      behindMs = 0;
      nowButton.hidden = true;
      subscribe();
      pauseButton.focus();
    });
    clearButton.addEventListener("click", () => {
      rows.replaceChildren();
      fill();
      pauseButton.focus();
    });
    rows.addEventListener("pointerleave", schedule);
    rows.addEventListener("focusout", schedule);

    read();
    connect();
  }

  document.addEventListener("DOMContentLoaded", () => {
    const page = document.getElementById("cp-stream");
    if (page) start(page);
  });
})();
