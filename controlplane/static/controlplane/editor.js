// The editor of suites: line numbers, indenting, a check while one writes, and the way from a fault to its line.
// A plain text area stays what it is: without this file the page checks, saves and runs all the same.
"use strict";

(() => {
  const INDENT = "  ";
  const PAUSE_MS = 700;

  function editor(form) {
    const area = form.querySelector("textarea");
    const gutter = form.querySelector("[data-editor-gutter]");
    const checked = document.getElementById("cp-editor-checked");
    const cases = form.querySelector("[data-editor-cases]");
    const saved = area.value;
    let bad = new Set();
    let leaves = false; // Esc was pressed: the next Tab leaves the text
    let asked = 0;
    let timer = 0;

    const number = () => {
      const count = area.value.split("\n").length;
      if (gutter.childElementCount !== count) {
        gutter.replaceChildren(...Array.from({ length: count }, (_, index) => {
          const line = document.createElement("span");
          line.textContent = String(index + 1);
          return line;
        }));
      }
      [...gutter.children].forEach((line, index) => line.classList.toggle("cp-editor-bad", bad.has(index + 1)));
      gutter.scrollTop = area.scrollTop;
    };

    // Takes the faults, and the cases there are, from what the server said.
    const take = () => {
      bad = new Set([...checked.querySelectorAll("[data-line]")].map((fault) => Number(fault.dataset.line)));
      const found = checked.querySelector("[data-cases]");
      if (cases && found) {
        const before = cases.value;
        const names = found.dataset.cases.split(" ").filter(Boolean);
        cases.replaceChildren(new Option("all cases", ""), ...names.map((name) => new Option(name, name)));
        cases.value = names.includes(before) ? before : "";
      }
      number();
    };

    const check = async () => {
      clearTimeout(timer);
      const turn = ++asked;
      const body = new URLSearchParams({ text: area.value, csrfmiddlewaretoken: form.elements.csrfmiddlewaretoken.value });
      const answer = await fetch(form.dataset.check, { method: "POST", body }).catch(() => null);
      if (!answer || !answer.ok || turn !== asked) return; // what is typed since is checked by a later turn
      checked.innerHTML = await answer.text();
      take();
    };

    // What is typed through execCommand can be undone by the browser's own undo.
    const type = (text) => {
      if (!document.execCommand("insertText", false, text)) area.setRangeText(text, area.selectionStart, area.selectionEnd, "end");
    };

    const indent = (outdents) => {
      const { selectionStart: start, selectionEnd: end, value } = area;
      const first = value.lastIndexOf("\n", start - 1) + 1;
      if (start === end && !outdents) {
        type(INDENT.slice((start - first) % INDENT.length));
        return;
      }
      const last = value.indexOf("\n", Math.max(start, end - 1));
      const until = last < 0 ? value.length : last;
      const lines = value.slice(first, until).split("\n");
      const moved = lines.map((line) => (outdents ? line.replace(/^ {1,2}/, "") : line && INDENT + line));
      area.setSelectionRange(first, until);
      type(moved.join("\n"));
      const shift = moved[0].length - lines[0].length;
      const grown = moved.join("\n").length - (until - first);
      area.setSelectionRange(Math.max(first, start + shift), Math.max(first, end + grown));
    };

    const go = (line, column) => {
      const lines = area.value.split("\n");
      const begins = lines.slice(0, line - 1).reduce((sum, text) => sum + text.length + 1, 0);
      const text = lines[line - 1] || "";
      area.focus();
      area.setSelectionRange(begins + Math.min(column - 1, text.length), begins + text.length);
      const height = parseFloat(getComputedStyle(area).lineHeight);
      area.scrollTop = Math.max(0, (line - 1) * height - area.clientHeight / 3);
      area.scrollLeft = 0;
      number();
    };

    const submit = (button) => button && form.requestSubmit(button);

    area.addEventListener("keydown", (event) => {
      const command = event.ctrlKey || event.metaKey;
      if (command && event.key === "Enter") {
        event.preventDefault();
        check();
      } else if (command && event.key.toLowerCase() === "s" && !event.shiftKey && !event.altKey) {
        event.preventDefault();
        submit(form.querySelector("[data-editor-save]"));
      } else if (event.key === "Escape") {
        leaves = true;
        return;
      } else if (event.key === "Tab" && !leaves && !command && !event.altKey) {
        event.preventDefault();
        indent(event.shiftKey);
      } else if (event.key === "Enter" && !command && !event.shiftKey && !event.isComposing) {
        const before = area.value.slice(area.value.lastIndexOf("\n", area.selectionStart - 1) + 1, area.selectionStart);
        event.preventDefault();
        type("\n" + before.match(/^ */)[0] + (/:\s*$/.test(before) ? INDENT : ""));
        area.blur();
        area.focus(); // brings the caret into view
      }
      if (event.key !== "Shift") leaves = false;
    });
    area.addEventListener("input", () => {
      number();
      clearTimeout(timer);
      timer = setTimeout(check, PAUSE_MS);
    });
    area.addEventListener("scroll", () => (gutter.scrollTop = area.scrollTop));
    form.querySelector("[data-editor-check]").addEventListener("click", (event) => {
      event.preventDefault();
      check();
    });
    checked.addEventListener("click", (event) => {
      const fault = event.target.closest("[data-line]");
      if (fault) go(Number(fault.dataset.line), Number(fault.dataset.column));
    });

    // What was typed is not lost by a link; a tab of its own leaves this one as it is.
    let isSent = false;
    form.addEventListener("submit", (event) => (isSent = !(event.submitter && event.submitter.formTarget === "_blank")));
    window.addEventListener("beforeunload", (event) => {
      if (!isSent && area.value !== saved) event.preventDefault();
    });
    take();
  }

  document.addEventListener("DOMContentLoaded", () => {
    const form = document.getElementById("cp-editor");
    if (form) editor(form);
  });
})();
