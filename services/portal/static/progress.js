// The stages of a test arrive through htmx; when the test is finished, the whole page is loaded again with its result.
document.addEventListener("finished", () => window.location.reload());
