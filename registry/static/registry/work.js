// A version's conversions while they run: step, percent and log are written in place; the list is fetched anew only
// when a state changes, so that nobody loses what they type or read. Without this script, reloading the page tells the same.
"use strict";

const EVERY_MS = 1500;

function shown(work) {
  return [...work.querySelectorAll("[data-recipe]")].map((line) => `${line.dataset.recipe}=${line.dataset.state}`).join();
}

function write(work, row) {
  const line = work.querySelector(`[data-recipe="${CSS.escape(row.recipe)}"]`);
  if (!line || row.state !== "running") return;
  line.querySelector("[data-told]").textContent = `${row.step || "starting"}, ${row.percent} %`;
  const bar = line.querySelector("[role=progressbar]");
  if (bar) {
    bar.setAttribute("aria-valuenow", row.percent);
    bar.firstElementChild.style.width = `${row.percent}%`;
  }
  const log = line.querySelector("pre");
  if (log && row.log_tail) log.textContent = row.log_tail;
}

async function look() {
  const work = document.getElementById("work");
  if (!work || !work.hasAttribute("data-open")) return;
  try {
    const told = await (await fetch(work.dataset.progress, { headers: { Accept: "application/json" } })).json();
    const isTyping = work.contains(document.activeElement) && document.activeElement.matches("input, select");
    const now = told.rows.map((row) => `${row.recipe}=${row.state_shown}`).join();
    if (now !== shown(work) && !isTyping) {
      const answer = await fetch(work.dataset.work);
      if (answer.ok) work.outerHTML = await answer.text();
    } else {
      told.rows.forEach((row) => write(work, row));
    }
  } catch (error) {
    console.warn("the server does not answer, asking again", error);
  }
  setTimeout(look, EVERY_MS);
}

setTimeout(look, EVERY_MS);
