// What pages do in the browser: local times (also in forms), live panels, copying, tabs, choosing rows, the find box.
// No framework and no inline script, so the content security policy can stay strict.
"use strict";

(() => {
  const zone = new Intl.DateTimeFormat(undefined, { timeZoneName: "short" });
  const zoneName = (date) => (zone.formatToParts(date).find((part) => part.type === "timeZoneName") || {}).value || "";
  const pad = (number) => String(number).padStart(2, "0");

  // Rewrites <time datetime> to the reader's zone; the title keeps UTC.
  function localTimes(root) {
    const today = new Date().toDateString();
    for (const element of root.querySelectorAll("time.cp-time")) {
      const date = new Date(element.dateTime);
      if (Number.isNaN(date.getTime())) continue;
      const clock = `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
      if (element.dataset.short !== undefined) {
        element.textContent = `${pad(date.getHours())}:${pad(date.getMinutes())} ${zoneName(date)}`;
        continue;
      }
      const day = `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
      element.textContent = `${date.toDateString() === today ? "" : `${day} `}${clock} ${zoneName(date)}`;
    }
  }

  // Shows a form's UTC times in the reader's zone, and sends them as UTC beside what was typed.
  function utcTimes(form) {
    const inputs = [...form.querySelectorAll("input[data-utc]")];
    const local = (date) => new Date(date.getTime() - date.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
    for (const input of inputs) {
      const date = new Date(`${input.value}Z`);
      if (!Number.isNaN(date.getTime())) input.value = local(date);
    }
    form.querySelector("[data-zone]").textContent = zoneName(new Date()) || "local time";
    form.addEventListener("submit", () => {
      for (const input of inputs) {
        const date = new Date(input.value);
        const utc = form.elements[`${input.name}_utc`];
        utc.value = Number.isNaN(date.getTime()) ? "" : date.toISOString().slice(0, 16);
      }
    });
  }

  // Replaces the panels that the server pushes; says so when the line is down.
  function live(page) {
    const state = document.getElementById("cp-live-state");
    let waitMs = 500;
    const connect = () => {
      const scheme = location.protocol === "https:" ? "wss" : "ws";
      const socket = new WebSocket(`${scheme}://${location.host}/ws/v1/live/`);
      socket.onmessage = (event) => {
        waitMs = 500;
        show("live", "Live");
        for (const [name, html] of Object.entries(JSON.parse(event.data).panels || {})) {
          const panel = page.querySelector(`[data-panel="${name}"]`);
          if (!panel) continue;
          panel.innerHTML = html;
          localTimes(panel);
        }
      };
      socket.onclose = (event) => {
        if (event.code === 4401 || event.code === 4403) {
          show("off", "Signed out");
          return;
        }
        show("off", "Reconnecting");
        setTimeout(connect, waitMs);
        waitMs = Math.min(waitMs * 2, 15000);
      };
    };
    const show = (word, text) => {
      state.dataset.state = word;
      state.lastElementChild.textContent = text;
    };
    connect();
  }

  async function copy(button) {
    const source = button.dataset.copyFrom && document.getElementById(button.dataset.copyFrom);
    const text = source ? source.textContent : button.dataset.copy;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without https there is no clipboard interface: the old way still works.
      const area = document.createElement("textarea");
      area.value = text;
      area.setAttribute("readonly", "");
      area.style.cssText = "position:fixed;opacity:0";
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    const label = button.querySelector("[data-label]") || button;
    const before = label.textContent;
    label.textContent = "Copied";
    button.setAttribute("aria-live", "polite");
    setTimeout(() => (label.textContent = before), 1500);
  }

  // Tabs: arrows move between them, the address remembers the one that is open.
  function tabs(list) {
    const all = [...list.querySelectorAll("[role=tab]")];
    const open = (tab, remember) => {
      for (const other of all) {
        const on = other === tab;
        other.setAttribute("aria-selected", String(on));
        other.tabIndex = on ? 0 : -1;
        document.getElementById(other.getAttribute("aria-controls")).hidden = !on;
      }
      if (remember) history.replaceState(null, "", `#${tab.dataset.tab}`);
    };
    for (const tab of all) tab.addEventListener("click", () => open(tab, !tab.dataset.quiet));
    list.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = all[(all.indexOf(document.activeElement) + step + all.length) % all.length];
      next.focus();
      next.click();
    });
    const wanted = all.find((tab) => tab.dataset.tab && `#${tab.dataset.tab}` === location.hash);
    open(wanted || all[0], false);
  }

  // Rows chosen for an action: how many, and the bar that acts on them.
  function chooser(form) {
    const boxes = [...form.querySelectorAll("input[name=id]")];
    const every = form.querySelector("[data-choose-all]");
    const bar = form.querySelector("[data-chosen-bar]");
    const show = () => {
      const count = boxes.filter((box) => box.checked).length;
      if (bar) {
        bar.hidden = count === 0;
        bar.querySelector("[data-chosen-count]").textContent = String(count);
      }
      if (every) {
        every.checked = count > 0 && count === boxes.length;
        every.indeterminate = count > 0 && count < boxes.length;
      }
    };
    form.addEventListener("change", (event) => {
      if (event.target === every) for (const box of boxes) box.checked = every.checked;
      show();
    });
    show();
  }

  function filters(form) {
    form.addEventListener("submit", () => {
      // Empty fields would only make the address long.
      for (const field of form.elements) if (field.name && !field.value) field.disabled = true;
    });
    for (const select of form.querySelectorAll("select")) select.addEventListener("change", () => form.requestSubmit());
  }

  // Looks at deliveries that are still on their way, and shows the page anew once one of them moved.
  function watch(elements) {
    const look = async () => {
      for (const element of elements) {
        const answer = await fetch(`/api/v1/deliveries/${element.dataset.delivery}/`).catch(() => null);
        if (!answer || !answer.ok) continue;
        const delivery = await answer.json();
        if (`${delivery.state}:${delivery.attempts}` !== element.dataset.version) {
          location.reload();
          return;
        }
      }
      setTimeout(look, 2000);
    };
    setTimeout(look, 1000);
  }

  // Shows anew, once a second, a part of the page that moves; the whole page once its state is another.
  function refresh(part) {
    const look = async () => {
      const answer = document.hidden ? null : await fetch(part.dataset.refresh).catch(() => null);
      if (answer && answer.ok) {
        const html = await answer.text();
        const found = new DOMParser().parseFromString(html, "text/html").querySelector("[data-version]");
        if (!found) return; // signed out: another page came
        if (found.dataset.version !== part.dataset.version) {
          location.reload();
          return;
        }
        // A bar that is kept moves on smoothly.
        const width = (root) => root.querySelector(".cp-progress i");
        const before = width(part) && width(part).style.width;
        part.innerHTML = html;
        localTimes(part);
        const bar = width(part);
        if (bar && before) {
          const after = bar.style.width;
          bar.style.width = before;
          requestAnimationFrame(() => requestAnimationFrame(() => (bar.style.width = after)));
        }
      }
      setTimeout(look, 1000);
    };
    setTimeout(look, 1000);
  }

  // A form that is sent once, however often its button is pressed.
  function once(form) {
    form.addEventListener("submit", (event) => {
      if (form.dataset.sent) event.preventDefault();
      form.dataset.sent = "1";
    });
    window.addEventListener("pageshow", () => delete form.dataset.sent);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy], [data-copy-from]");
    if (button) {
      event.preventDefault();
      copy(button);
    }
    const opener = event.target.closest("[data-opens]");
    if (opener) {
      const box = document.getElementById(opener.dataset.opens);
      box.hidden = !box.hidden;
      opener.setAttribute("aria-expanded", String(!box.hidden));
      if (!box.hidden) (box.querySelector("input:not([type=hidden])") || box).focus();
    }
  });

  // "/" and Ctrl-K go to the find box, Esc leaves it. Where a narrow page has no room for one, to the page of Find.
  document.addEventListener("keydown", (event) => {
    const field = event.target.closest("input, textarea, select, [contenteditable]");
    if (event.key === "Escape" && field && field.matches("[data-find], [data-search]")) {
      event.preventDefault();
      field.blur();
      return;
    }
    const slash = event.key === "/" && !field && !event.ctrlKey && !event.metaKey && !event.altKey;
    const jump = event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey;
    if (!slash && !jump) return;
    event.preventDefault();
    const shown = (box) => box && box.offsetParent !== null;
    const box = [document.querySelector("[data-find-main]"), document.querySelector("[data-find]")].find(shown);
    if (box) {
      box.focus();
      box.select();
    } else {
      location.assign("/admin/find/");
    }
  });

  document.addEventListener("DOMContentLoaded", () => {
    localTimes(document);
    document.querySelectorAll("[data-tabs]").forEach(tabs);
    document.querySelectorAll("form[data-chooser]").forEach(chooser);
    document.querySelectorAll("form[data-filters]").forEach(filters);
    document.querySelectorAll("form[data-utc-times]").forEach(utcTimes);
    document.querySelectorAll("[data-refresh]").forEach(refresh);
    document.querySelectorAll("form[data-once]").forEach(once);
    const page = document.getElementById("cp-live");
    if (page) live(page);
    const open = [...document.querySelectorAll("[data-delivery]")];
    if (open.length) watch(open);
  });
})();
