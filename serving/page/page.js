"use strict";

const POLL_MS = 4000;
const SHOWN_DELETIONS = 50;
const SHOWN_CLUSTERS = 500;
const STEPS = ["accepted", "erased", "completed"];
const UNDECIDED = ["requested", "declined"];
const STATE_CLASS = { tuned: "tuned", "awaits tuning": "awaiting", "too small": "small" };
const at = (id) => document.getElementById(id);
const seen = { clusters: [], answered: null, followed: null, pollFailed: false };

/* An element with text and children; text is never interpreted as HTML. */
function element(tag, { text = "", className = "", ...attributes } = {}, children = []) {
  const created = document.createElement(tag);
  created.className = className;
  created.textContent = text;
  for (const [name, value] of Object.entries(attributes)) created.setAttribute(name, value);
  created.append(...children);
  return created;
}

/* Call the service. Rejects with the text of its problem document. */
async function ask(path, options = {}) {
  const key = at("key").value.trim();
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  const answer = await fetch(path, { ...options, headers, cache: "no-store" });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(`${body.title ?? answer.status}: ${body.detail ?? "no reason given"}`);
  return body;
}

const askJson = (path, body, headers = {}) =>
  ask(path, { method: "POST", headers: { "Content-Type": "application/json", ...headers }, body: JSON.stringify(body) });

function showError(error) {
  at("error").textContent = error ? error.message : "";
  at("error").hidden = !error;
}

/* Squarified treemap (Bruls, Huizing and van Wijk 2000): from values in descending order to rectangles with proportional areas. */
function squarified(values, x, y, width, height) {
  const scale = (width * height) / values.reduce((sum, value) => sum + value, 0);
  const areas = values.map((value) => value * scale);
  const placed = [];
  for (let start = 0; start < areas.length;) {
    const side = Math.min(width, height);
    const worst = (sum, end) => Math.max((side ** 2 * areas[start]) / sum ** 2, sum ** 2 / (side ** 2 * areas[end]));
    let [end, sum] = [start, areas[start]];
    while (end + 1 < areas.length && worst(sum + areas[end + 1], end + 1) <= worst(sum, end)) sum += areas[++end];
    const depth = sum / side;
    let along = 0;
    for (; start <= end; start++) {
      const length = areas[start] / depth;
      placed.push(width >= height ? [x, y + along, depth, length] : [x + along, y, length, depth]);
      along += length;
    }
    [x, y, width, height] = width >= height ? [x + depth, y, width - depth, height] : [x, y + depth, width, height - depth];
  }
  return placed;
}

function drawClusters() {
  const map = at("treemap");
  const clusters = seen.clusters;
  const rectangles = clusters.length ? squarified(clusters.map((cluster) => cluster.rows), 0, 0, map.clientWidth, map.clientHeight) : [];
  map.replaceChildren(...clusters.map((cluster, index) => {
    const [left, top, width, height] = rectangles[index];
    const details = `${cluster.key}: ${cluster.rows} rows at ${cluster.anchors} anchors, ${cluster.state}`;
    const text = element("span", { text: cluster.rows, className: width < 34 || height < 24 ? "tight" : "" });
    const tile = element("div", { className: STATE_CLASS[cluster.state], role: "listitem", title: details, "data-key": cluster.key }, [text]);
    tile.classList.toggle("answered", cluster.key === seen.answered);
    Object.assign(tile.style, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` });
    tile.addEventListener("pointerenter", () => { at("cluster-details").textContent = details; });
    return tile;
  }));
}

function drawCommit(commit) {
  const shown = { rows: commit.rows, "cluster-count": commit.clusters, specialists: commit.specialists, number: commit.number };
  for (const [id, value] of Object.entries(shown)) at(id).textContent = value.toLocaleString("en");
  at("root").textContent = commit.root.slice(0, 12);
  at("root").title = commit.root;
}

function after(deletion, step) {
  const time = deletion[`${step}_at`];
  return time ? `${((Date.parse(time) - Date.parse(deletion.accepted_at)) / 1000).toFixed(1)} s` : "–";
}

function receiptButton(id) {
  const button = element("button", { text: "Receipt", type: "button" });
  button.addEventListener("click", () => saveReceipt(id).catch(showError));
  return button;
}

async function saveReceipt(id) {
  const receipt = await ask(`v1/deletions/${encodeURIComponent(id)}/receipt`);
  const href = URL.createObjectURL(new Blob([JSON.stringify(receipt, null, 2)], { type: "application/json" }));
  element("a", { href, download: `receipt-${id}.json` }).click();
  URL.revokeObjectURL(href);
}

function retryButton(id) {
  const button = element("button", { text: "Retry", type: "button" });
  button.addEventListener("click", () => {
    ask(`v1/deletions/${encodeURIComponent(id)}/retry`, { method: "POST" }).then(refresh).catch(showError);
  });
  return button;
}

/* Buttons that show what a waiting deletion would do, approve it, and decline it. */
function decisionButtons(id) {
  const path = `v1/deletions/${encodeURIComponent(id)}`;
  const buttons = {
    Preview: () => ask(`${path}/preview`, { method: "POST" }).then((preview) => drawPreview(preview, "Approve as previewed", () =>
      askJson(`${path}/approve`, { preview: preview.token }).then(() => at("previewed").replaceChildren()))),
    Approve: () => askJson(`${path}/approve`, {}),
    Decline: () => {
      const reason = prompt("Why is it declined? The reason stays in the log, in clear.");
      return reason ? askJson(`${path}/decline`, { reason }) : Promise.resolve();
    },
  };
  return Object.entries(buttons).map(([text, act]) => {
    const button = element("button", { text, type: "button" });
    button.addEventListener("click", () => act().then(refresh).then(() => showError(null)).catch(showError));
    return button;
  });
}

function drawDeletions({ deletions, next_cursor }) {
  at("no-deletions").hidden = deletions.length > 0;
  at("older-deletions").hidden = !next_cursor;
  at("deletion-rows").replaceChildren(...deletions.map((deletion) => {
    const buttons = [
      ...(["accepted", ...UNDECIDED].includes(deletion.status) ? [] : [receiptButton(deletion.id)]),
      ...(deletion.status === "requested" ? decisionButtons(deletion.id) : []),
      ...(deletion.status === "failed" ? [retryButton(deletion.id)] : []),
    ];
    const cells = [
      element("td", { text: deletion.id.slice(0, 8), title: deletion.id, className: "key" }),
      element("td", { text: deletion.status, title: [deletion.reason, who(deletion)].filter(Boolean).join("; ") }),
      ...[deletion.rows, deletion.clusters.length, new Date(deletion.accepted_at).toLocaleString(),
        after(deletion, "erased"), after(deletion, "completed")].map((text) => element("td", { text })),
      element("td", {}, buttons),
    ];
    return element("tr", { "data-id": deletion.id }, cells);
  }));
  const followed = deletions.find((deletion) => deletion.id === seen.followed?.id);
  if (followed) drawFollowed(followed, seen.followed.unknown_ids);
}

/* The newest deletions, and the followed one if it is older. */
async function newestDeletions() {
  const page = await ask(`v1/deletions?limit=${SHOWN_DELETIONS}`);
  const followed = seen.followed?.id;
  if (followed && !page.deletions.some((deletion) => deletion.id === followed)) {
    page.deletions.push(await ask(`v1/deletions/${encodeURIComponent(followed)}`));
  }
  return page;
}

const who = ({ requested_by, decided_by }) =>
  [requested_by && `requested by ${requested_by}`, decided_by && `decided by ${decided_by}`].filter(Boolean).join(", ");

function drawFollowed(deletion, unknown) {
  const reached = STEPS.indexOf(deletion.status === "failed" ? "erased" : deletion.status);
  const steps = STEPS.map((step, index) => element("li", { text: step, className: index <= reached ? "done" : "" }));
  if (deletion.status === "failed") steps.push(element("li", { text: "failed", className: "failed", title: deletion.reason ?? "" }));
  if (UNDECIDED.includes(deletion.status)) steps.unshift(element("li", { text: deletion.status, className: "done", title: deletion.reason ?? "" }));
  const parts = [element("p", { text: `${deletion.rows} row(s), deletion ${deletion.id.slice(0, 8)}` }), element("ol", { className: "steps" }, steps)];
  if (deletion.as_previewed !== null) parts.push(element("p", { text: deletion.as_previewed ? "Erased as previewed." : "Something was committed before the erasure: its state root is not that of the preview.", className: "note" }));
  if (unknown.length) parts.push(element("p", { text: `Not in the system: ${unknown.join(", ")}`, className: "note" }));
  if (reached > 0) parts.push(receiptButton(deletion.id));
  at("followed").replaceChildren(...parts);
}

const lines = (id) => at(id).value.split("\n").map((line) => line.trim()).filter(Boolean);

const named = () => ({ subject_ids: lines("subjects"), sample_ids: lines("samples") });

/* Show what a deletion of the named ids would do, with a button that does exactly this. */
async function requestPreview() {
  const body = named();
  const preview = await askJson("v1/deletions/preview", body);
  drawPreview(preview, "Delete as previewed", () => requestDeletion({ ...body, preview: preview.token }));
}

function drawPreview(preview, verb, act) {
  const facts = {
    "Rows to erase": preview.rows, "Of them in a coreset": preview.coreset_rows, "Clusters touched": preview.clusters.length,
    "Subjects with rows": preview.subjects, "Row-passes to tune again": preview.row_passes,
    "Expected time": preview.seconds === null ? "not measured yet" : `${preview.seconds} s`,
    "State root afterwards": preview.root.slice(0, 12),
  };
  const shown = Object.entries(facts).map(([name, value]) => element("div", {}, [element("dt", { text: name }), element("dd", { text: value })]));
  const button = element("button", { text: verb, type: "button", className: "danger" });
  button.addEventListener("click", () => {
    button.disabled = true;
    act().then(() => showError(null)).then(refresh).catch(showError);
  });
  const parts = [element("dl", { title: `State root afterwards: ${preview.root}` }, shown), button];
  if (preview.unknown_ids.length) parts.splice(1, 0, element("p", { text: `Not in the system: ${preview.unknown_ids.join(", ")}`, className: "note" }));
  at("previewed").replaceChildren(...parts);
}

/* Delete what a table names; a malformed line is named by the service, and nothing is begun. */
async function requestTable(file) {
  const form = new FormData();
  form.append("table", file);
  const headers = { "Idempotency-Key": crypto.randomUUID() };
  const { deletions } = await ask(`v1/deletions/table?of=${at("table-of").value}`, { method: "POST", headers, body: form });
  at("delete-form").reset();
  seen.followed = { id: deletions[0].id, unknown_ids: deletions[0].unknown_ids };
  drawFollowed(deletions[0], deletions[0].unknown_ids);
}

async function requestDeletion(body) {
  // With the idempotency key, a request that the browser repeats deletes once.
  const deletion = await askJson("v1/deletions", body, { "Idempotency-Key": crypto.randomUUID() });
  seen.followed = { id: deletion.id, unknown_ids: deletion.unknown_ids };
  at("delete-form").reset();
  at("previewed").replaceChildren();
  drawFollowed(deletion, deletion.unknown_ids);
}

async function predict(file) {
  const form = new FormData();
  form.append("images", file);
  const [prediction] = (await ask("v1/predict", { method: "POST", body: form })).predictions;
  if (prediction.error) throw new Error(`${prediction.error.title}: ${prediction.error.detail}`);
  seen.answered = prediction.cluster;
  const bars = Object.entries(prediction.probabilities).map(([label, share]) => element("li", {}, [
    element("span", { text: label, title: label }),
    element("progress", { max: 1, value: share, "aria-label": label }),
    element("output", { text: `${(100 * share).toFixed(1)} %` }),
  ]));
  const answered = prediction.cluster ? `cluster ${prediction.cluster.slice(0, 12)}` : "no cluster";
  at("prediction").replaceChildren(
    element("p", { text: prediction.label, className: "label" }),
    element("ol", {}, bars),
    element("p", { text: `Answered by ${answered}, route ${prediction.route}, commit ${prediction.commit}`, className: "note", title: prediction.cluster ?? "" }),
  );
  drawClusters();
}

function show(file) {
  if (!file) return;
  const preview = at("preview");
  URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(file);
  preview.hidden = false;
  at("drop-text").textContent = file.name;
  at("prediction").replaceChildren();
  predict(file).then(() => showError(null)).catch(showError);
}

async function refresh() {
  const [commit, clusters, deletions] = await Promise.all([ask("v1/commit"), ask(`v1/clusters?limit=${SHOWN_CLUSTERS}`), newestDeletions()]);
  const changed = JSON.stringify(seen.clusters) !== JSON.stringify(clusters.clusters);
  seen.clusters = clusters.clusters;
  at("smaller-clusters").hidden = !clusters.next_cursor;
  drawCommit(commit);
  if (changed) drawClusters();
  drawDeletions(deletions);
}

async function poll() {
  if (!document.hidden) {
    try {
      await refresh();
      // Only errors of polls are cleared; the result of a user's own action stays.
      if (seen.pollFailed) showError(null);
      seen.pollFailed = false;
    } catch (error) {
      showError(error);
      seen.pollFailed = true;
    }
  }
  setTimeout(poll, POLL_MS);
}

at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  refresh().then(() => showError(null)).catch(showError);
});
at("delete-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const button = event.submitter;
  button.disabled = true;
  const [table] = at("table").files;
  const deleted = () => (table ? requestTable(table) : requestDeletion(named())).then(refresh);
  const asked = button.name === "preview" ? requestPreview() : deleted();
  asked.then(() => showError(null)).catch(showError).finally(() => { button.disabled = false; });
});
at("file").addEventListener("change", (event) => show(event.target.files[0]));
for (const name of ["dragenter", "dragover"]) at("drop").addEventListener(name, (event) => {
  event.preventDefault();
  at("drop").classList.add("over");
});
for (const name of ["dragleave", "drop"]) at("drop").addEventListener(name, () => at("drop").classList.remove("over"));
at("drop").addEventListener("drop", (event) => {
  event.preventDefault();
  show(event.dataTransfer.files[0]);
});
new ResizeObserver(drawClusters).observe(at("treemap"));
poll();
