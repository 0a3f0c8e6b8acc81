// The stages of a test arrive through htmx; when the test is finished, the whole page is loaded again with its result. This file is loaded
// before htmx, so that no event comes too early. A session that is over (401) is not asked for again and again: its page says so.
document.addEventListener("finished", () => window.location.reload());
document.addEventListener("htmx:sse:error", event => {
  if (event.detail.status === 401) window.location.reload();
});

// htmx connects again after a connection that was lost, but not after a first one that failed.
const again = () => setTimeout(loadWhenAnswered, 2000);
const loadWhenAnswered = () =>
  fetch(window.location.href, { method: "HEAD" }).then(answer => (answer.status < 500 ? window.location.reload() : again()), again);
for (const name of ["htmx:error", "htmx:response:error"]) document.addEventListener(name, again);
