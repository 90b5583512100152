// A version's conversions while they run: step, percent and log are written in place; the list is fetched anew only
// when a state changes, so that nobody loses what they type or read. Without this script, reloading the page tells the same.
"use strict";

const EVERY_MS = 1500;

function shown(work) {
  return [...work.querySelectorAll("[data-recipe]")].map((line) => `${line.dataset.recipe}=${line.dataset.state}`).join();
}

function write(work, row) {
  const line = work.querySelector(`[data-recipe="${CSS.escape(row.recipe)}"]`);
  const words = line?.querySelector("[data-told]");
  if (!words || row.state !== "running") return;
  words.textContent = `${row.step || "starting"}, ${row.percent} %`;
  const bar = line.querySelector("[role=progressbar]");
  if (bar) {
    bar.setAttribute("aria-valuenow", row.percent);
    bar.firstElementChild.style.width = `${row.percent}%`;
  }
  const log = line.querySelector("pre");
  if (log && row.log_tail) log.textContent = row.log_tail;
}

function at(element) {
  return { recipe: element.closest("[data-recipe]")?.dataset.recipe || "", name: element.name };
}

function find(work, { recipe, name }) {
  return work.querySelector(`[data-recipe="${CSS.escape(recipe)}"] input[name="${CSS.escape(name)}"]`);
}

// Put the list as the server has it now in place of the old one, with what was typed, opened and focused in that.
function redraw(work, html) {
  const inputs = [...work.querySelectorAll("[data-recipe] input:not([type=hidden])")];
  const typed = inputs.filter((input) => input.value !== input.defaultValue).map((input) => [at(input), input.value]);
  const focused = inputs.includes(document.activeElement) ? at(document.activeElement) : null;
  const opened = [...work.querySelectorAll("[data-recipe] details[open]")].map((details) => at(details).recipe);
  work.outerHTML = html;
  const drawn = document.getElementById("work");
  typed.forEach(([where, value]) => { const input = find(drawn, where); if (input) input.value = value; });
  opened.forEach((recipe) => drawn.querySelector(`[data-recipe="${CSS.escape(recipe)}"] details`)?.setAttribute("open", ""));
  if (focused) find(drawn, focused)?.focus();
}

async function look() {
  const work = document.getElementById("work");
  if (!work || !work.hasAttribute("data-open")) return;
  try {
    const told = await (await fetch(work.dataset.progress, { headers: { Accept: "application/json" } })).json();
    const isChoosing = work.contains(document.activeElement) && document.activeElement.matches("select"); // it may hang open
    const now = told.rows.map((row) => `${row.recipe}=${row.state_shown}`).join();
    if (now !== shown(work) && !isChoosing) {
      const answer = await fetch(work.dataset.work);
      if (answer.ok) redraw(work, await answer.text());
    } else {
      told.rows.forEach((row) => write(work, row));
    }
  } catch (error) {
    console.warn("the server does not answer, asking again", error);
  }
  setTimeout(look, EVERY_MS);
}

setTimeout(look, EVERY_MS);
