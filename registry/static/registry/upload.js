// Streams each file as the body of one request as soon as it is chosen, and says what the server found in it.
"use strict";

(() => {
  const form = document.getElementById("upload");
  const button = form.querySelector("button[type=submit]");
  const hint = form.querySelector("[data-hint]");
  const token = form.querySelector("[name=csrfmiddlewaretoken]").value;
  const models = JSON.parse(document.getElementById("models-by-application").textContent);
  const mostBytes = Number(form.dataset.mostBytes);
  const profiles = JSON.parse(document.getElementById("profiles-by-application").textContent);
  const BUILT_IN = "", OWN = " own"; // a space: no profile can have this name
  const received = { source: null, evaluation_set: null, training_set: null };
  const sending = {};
  let added = 0;

  const size = (bytes) => {
    const units = ["B", "kB", "MB", "GB"];
    let unit = 0;
    for (; bytes >= 1000 && unit < 3; unit += 1) bytes /= 1000;
    return `${unit ? bytes.toPrecision(3) : bytes} ${units[unit]}`;
  };

  const show = (element, words) => {
    element.textContent = words;
    element.hidden = !words;
  };

  const detail = (request) => {
    try {
      return JSON.parse(request.responseText).detail;
    } catch {
      return `The server answered ${request.status}. Nothing was registered; try again.`;
    }
  };

  function refresh() {
    const busy = Object.keys(sending).length > 0;
    const isRefused = extraFiles().some((zone) => !(zone.dataset.role in sending) && !received[zone.dataset.role]);
    const unnamed = parts().some((part) => !part.querySelector("[data-name]").value.trim());
    const missing = !received.source ? "Choose a model file first." : !form.model.value.trim() ? "Name the model."
      : isRefused ? "Remove the file that did not arrive." : unnamed ? "Name each part." : "";
    button.disabled = busy || Boolean(missing);
    hint.textContent = busy ? "Uploading…" : missing;
  }

  const extraFiles = () => [...document.querySelectorAll("#extra-files > *")];
  const parts = () => [...document.querySelectorAll("#parts > *")];

  // A row of the template's kind, with a button that takes it away again.
  function addRow(kind, list, forget) {
    const row = document.getElementById(kind).content.firstElementChild.cloneNode(true);
    row.querySelector("[data-remove]").addEventListener("click", () => { forget(row); row.remove(); refresh(); });
    document.getElementById(list).append(row);
    document.getElementById("bundle").open = true;
    return row;
  }

  const ROLES = [[/^labels\b.*\.txt$/i, "labels"], [/\.(binarypb|pbtxt)$/i, "graph"], [/\.(json|ya?ml|toml|ini)$/i, "config"], [/\.txt$/i, "vocabulary"], [/./, "data"]];

  function addFile(file) {
    const row = addRow("extra-file", "extra-files", ({ dataset: { role } }) => { sending[role]?.abort(); delete received[role]; });
    row.dataset.role = `file-${added += 1}`;
    row.querySelector("[data-file-role]").value = ROLES.find(([pattern]) => pattern.test(file.name))[1];
    row.querySelector("[data-path]").value = file.name;
    send(row, file);
  }

  function suggestModels() {
    const list = document.getElementById("models");
    list.replaceChildren(...(models[form.application.value] || []).map((name) => new Option(name, name)));
  }

  function known() {
    return (profiles[form.application.value] || {})[form.model.value.trim()] || [];
  }

  // The model's profiles, or the built-in set where none is its default, or ticks of one's own.
  function offerProfiles() {
    const chosen = form.profile.value;
    const options = known().map((row) => new Option(`${row.name}${row.is_default ? " (default)" : ""}: ${row.recipes.length} recipes`, row.name));
    if (!known().some((row) => row.is_default)) options.unshift(new Option("the default ones that apply", BUILT_IN));
    options.push(new Option("chosen one by one…", OWN));
    form.profile.replaceChildren(...options);
    if (options.some((option) => option.value === chosen)) form.profile.value = chosen;
    showRecipes();
  }

  function showRecipes() {
    const profile = known().find((row) => row.name === form.profile.value);
    form.querySelector("[data-own-recipes]").hidden = form.profile.value !== OWN;
    form.querySelector("[data-profile-words]").textContent = profile ? profile.recipes.join(", ") : "";
  }

  // The JSON as it stands, with the single fields laid over it; throws what is wrong with it.
  function metadata() {
    const typed = form.metadata.value.trim();
    let told = {};
    if (typed) {
      try {
        told = JSON.parse(typed);
      } catch (error) {
        throw new Error(`Expected JSON as metadata. ${error.message}`);
      }
    }
    if (typeof told !== "object" || Array.isArray(told) || told === null) throw new Error("Expected a JSON object as metadata.");
    form.querySelectorAll("[data-metadata]").forEach((field) => {
      if (field.value.trim()) told[field.dataset.metadata] = field.value.trim();
    });
    return told;
  }

  function send(zone, file) {
    const role = zone.dataset.role;
    const bar = zone.querySelector(".ag-progress");
    const words = zone.querySelector(".ag-drop-words");
    const error = zone.querySelector(".ag-field-error");
    const found = zone.querySelector(".ag-found");
    if (sending[role]) sending[role].abort();
    received[role] = null;
    zone.querySelector(".ag-drop-state").hidden = false;
    zone.querySelector(".ag-drop-name").textContent = `${file.name}, ${size(file.size)}`;
    zone.classList.remove("ag-is-good", "ag-is-bad");
    found.replaceChildren();
    show(error, "");

    const fill = (share) => {
      bar.firstElementChild.style.width = `${share * 100}%`;
      bar.setAttribute("aria-valuenow", Math.round(share * 100));
    };
    const refuse = (message) => {
      fill(0);
      words.textContent = "";
      zone.classList.add("ag-is-bad");
      show(error, message);
    };
    fill(0);
    if (file.size > mostBytes) {
      refuse(`Expected a file of at most ${size(mostBytes)}, got ${size(file.size)}.`);
      return refresh();
    }

    const query = new URLSearchParams({ application: form.application.value, file_name: file.name, role: zone.dataset.kind || role });
    const request = new XMLHttpRequest();
    const end = () => {
      if (sending[role] === request) delete sending[role];
      refresh();
    };
    request.open("POST", `${form.dataset.receive}?${query}`);
    request.setRequestHeader("X-CSRFToken", token);
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => {
      fill(event.loaded / event.total);
      const is_sent = event.loaded === event.total;
      words.textContent = is_sent ? "Sent; being read…" : `${size(event.loaded)} of ${size(event.total)}`;
    };
    request.onerror = () => { refuse("The connection broke. Choose the file again to try once more."); end(); };
    request.onabort = end;
    request.onload = () => {
      if (request.status === 200) {
        const answer = JSON.parse(request.responseText);
        received[role] = answer.id;
        fill(1);
        zone.classList.add("ag-is-good");
        words.textContent = `Received, SHA-256 ${answer.sha256.slice(0, 16)}…`;
        found.replaceChildren(...answer.found.map((line) => Object.assign(document.createElement("li"), { textContent: line })));
      } else {
        refuse(detail(request));
      }
      end();
    };
    sending[role] = request;
    request.send(file);
    refresh();
  }

  function refuseField(name, words) {
    const field = name && form.querySelector(`[data-error="${CSS.escape(name)}"]`);
    const fold = field && field.closest("details");
    if (fold) fold.open = true;
    show(field || form.querySelector("[data-error=form]"), words);
  }

  async function register(event) {
    event.preventDefault();
    const problem = form.querySelector("[data-error=form]");
    const isOwn = form.profile.value === OWN;
    const ticked = [...form.querySelectorAll("[name=recipe]:checked")].map((box) => box.value);
    form.querySelectorAll("[data-error]").forEach((element) => show(element, ""));
    if (isOwn && !ticked.length) return show(problem, "Expected at least one variant to build, got none.");
    let described;
    try {
      described = metadata();
    } catch (error) {
      return refuseField("metadata", error.message);
    }
    button.disabled = true;
    hint.textContent = "Registering…";
    const body = {
      application: form.application.value,
      model: form.model.value.trim(),
      source: received.source,
      source_signature: form.source_signature.value.trim(),
      evaluation_set: received.evaluation_set,
      training_set: received.training_set,
      labels: form.labels.value,
      files: extraFiles().map((zone) => ({
        upload: received[zone.dataset.role],
        role: zone.querySelector("[data-file-role]").value,
        path: zone.querySelector("[data-path]").value.trim(),
      })),
      parts: parts().map((part) => ({
        name: part.querySelector("[data-name]").value.trim(),
        of: part.querySelector("[data-of]").value,
      })),
      notes: form.notes.value,
      metadata: described,
      recipes: isOwn ? ticked : null,
      profile: isOwn ? null : form.profile.value,
    };
    const headers = { "X-CSRFToken": token, Accept: "application/json", "Content-Type": "application/json" };
    try {
      const answer = await fetch(form.dataset.register, { method: "POST", headers, body: JSON.stringify(body) });
      const told = await answer.json();
      if (answer.status === 201) return window.location.assign(told.location);
      refuseField(told.field, told.detail);
    } catch {
      show(problem, "The server did not answer. Nothing was registered; try again.");
    }
    refresh();
  }

  form.querySelectorAll(".ag-drop").forEach((zone) => {
    const input = zone.querySelector("input[type=file]");
    input.hasChangeListener = true; // the admin's own script would look for its text field beside it
    const take = () => {
      if (input.files.length) send(zone, input.files[0]);
      input.value = "";
    };
    input.addEventListener("change", take);
    take(); // somebody was faster than this script
    zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("ag-is-over"); });
    zone.addEventListener("dragleave", () => zone.classList.remove("ag-is-over"));
    zone.addEventListener("drop", (event) => {
      event.preventDefault();
      zone.classList.remove("ag-is-over");
      if (event.dataTransfer.files.length) send(zone, event.dataTransfer.files[0]);
    });
  });
  const filesToAdd = document.getElementById("add-files");
  filesToAdd.hasChangeListener = true;
  filesToAdd.addEventListener("change", () => {
    [...filesToAdd.files].forEach(addFile);
    filesToAdd.value = "";
  });
  document.getElementById("add-part")?.addEventListener("click", () => {
    addRow("part", "parts", () => {}).querySelector("[data-name]").addEventListener("input", refresh);
    refresh();
  });
  form.application.addEventListener("change", () => {
    window.location.search = `?${new URLSearchParams({ application: form.application.value, model: form.model.value })}`;
  });
  form.model.addEventListener("input", () => { offerProfiles(); refresh(); });
  form.profile.addEventListener("change", showRecipes);
  const metadataFile = document.getElementById("metadata-file");
  metadataFile.hasChangeListener = true;
  metadataFile.addEventListener("change", async (event) => {
    const [file] = event.target.files;
    if (file) form.metadata.value = await file.text();
    event.target.value = "";
  });
  form.addEventListener("submit", register);
  suggestModels();
  offerProfiles();
  refresh();
})();
