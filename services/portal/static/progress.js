// The stages of a test arrive through htmx; when the test is finished, the whole page is loaded again with its result. This file is loaded
// before htmx, so that no event comes too early. A session that is over (401) is not asked for again and again: its page says so.
document.addEventListener("finished", () => window.location.reload());
document.addEventListener("htmx:sse:error", event => {
  if (event.detail.status === 401) window.location.reload();
});
