// The panel within a frame of the platform. The token is in the memory of this script alone: it comes in the fragment of the address,
// which reaches no server and is removed at once, or in a message from a registered origin. No cookie is sent or set.
//
// From the platform: {type: "replyrate-token", token}. To the platform, without any figure: {type: "replyrate-ready"},
// {type: "replyrate-token-needed"}, {type: "replyrate-height", height}. Only registered origins can frame the page at all.
// {type: "replyrate-link-needed", page}: the reader wants what a frame does not do. Sent to the registered origin that frames the page.
(() => {
  "use strict";
  const origins = document.body.dataset.origins.split(" ").filter(Boolean);
  const fragment = new URLSearchParams(location.hash.slice(1));
  let token = fragment.get("token") || "";
  let language = new URLSearchParams(location.search).get("lang") || "";
  let shown = "/panel";
  let asked = 0;
  let refusals = 0;
  const MOST_REFUSALS = 3;
  const texts = { ...document.body.dataset };
  history.replaceState({ address: shown }, "", location.pathname + location.search);

  const tell = (message) => window.parent.postMessage(message, "*");

  // The registered origin that frames the page: the one that a token came from, or that the browser names; else each of them is tried, and the
  // browser delivers the message to the parent's own alone.
  let platform = "";
  const tellPlatform = (message) => {
    const named = platform || (location.ancestorOrigins && location.ancestorOrigins[0]) || "";
    for (const origin of origins.includes(named) ? [named] : origins) window.parent.postMessage(message, origin);
  };

  const request = (address) => {
    const url = new URL(address, location.origin);
    language = url.searchParams.get("lang") || language;
    if (language) url.searchParams.set("lang", language);
    return fetch(url, { headers: { Authorization: `Bearer ${token}` }, credentials: "omit", cache: "no-store" });
  };

  // Asks for a page. `leads`: the reader asked for it, so focus and place go there. Of several that were asked for only the last one is shown, whichever answers first.
  const show = async (address, { leads = false } = {}) => {
    const number = ++asked;
    shown = address;
    let response, text;
    try {
      response = await request(address);
      text = await response.text();
    } catch {
      if (number === asked) note("lost");
      return;
    }
    if (number !== asked) return;
    if (response.status === 401) {
      askForToken();
      return;
    }
    refusals = 0;
    const page = new DOMParser().parseFromString(text, "text/html");
    document.documentElement.lang = page.documentElement.lang;
    document.title = page.title;
    document.body.replaceChildren(...page.body.children);
    note("");
    if (leads) lead(new URL(address, location.origin).hash.slice(1));
  };

  // Where a reader goes on: at the place that a link names, or at the beginning of the page.
  const lead = (name) => {
    const place = (name && document.getElementById(name)) || document.getElementById("content");
    if (!place) return;
    if (!place.hasAttribute("tabindex")) place.setAttribute("tabindex", "-1");
    place.focus({ preventScroll: true });
    place.scrollIntoView();
  };

  // The page stays as it is until a token comes. A platform whose tokens are refused is not asked for ever.
  const askForToken = () => {
    refusals += 1;
    if (refusals > MOST_REFUSALS) note("ended");
    else tell({ type: "replyrate-token-needed" });
  };

  // A sentence above the page, until the next page.
  const note = (name) => {
    let place = document.getElementById("frame-note");
    if (!place && name) {
      place = document.createElement("p");
      place.id = "frame-note";
      place.className = "note";
      place.setAttribute("role", "alert");
      document.body.prepend(place);
    }
    if (!place) return;
    place.textContent = name && texts[name + (document.documentElement.lang.startsWith("zh") ? "Zh" : "En")];
    if (!name) place.remove();
  };

  const go = (address) => {
    history.pushState({ address }, "");
    refusals = 0;
    return show(address, { leads: true });
  };

  const save = async (address) => {
    let response, content;
    try {
      response = await request(address);
      content = await response.blob();
    } catch {
      note("lost");
      return;
    }
    if (response.status === 401) {
      askForToken();
      return;
    }
    note(response.ok ? "" : "refused");
    if (!response.ok) return;
    const name = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition") || "");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(content);
    link.download = name ? name[1] : "figures";
    link.click();
    URL.revokeObjectURL(link.href);
  };

  document.addEventListener("click", (event) => {
    const wish = event.target.closest("button[data-link-needed]");
    if (wish) {
      tellPlatform({ type: "replyrate-link-needed", page: wish.dataset.linkNeeded });
      note("asked");
      return;
    }
    const link = event.target.closest("a[href]");
    if (!link || link.protocol === "blob:") return;
    if (link.getAttribute("href").startsWith("#")) {
      event.preventDefault();
      lead(link.hash.slice(1));
      return;
    }
    if (link.origin !== location.origin || !link.pathname.startsWith("/panel")) return;
    event.preventDefault();
    const address = link.pathname + link.search + link.hash;
    if (link.hasAttribute("download")) save(address);
    else go(address);
  });
  document.addEventListener("submit", (event) => {
    if (event.target.method !== "get") return;
    event.preventDefault();
    go(`${new URL(event.target.action).pathname}?${new URLSearchParams(new FormData(event.target))}`);
  });
  window.addEventListener("popstate", (event) => show(event.state ? event.state.address : "/panel", { leads: true }));
  window.addEventListener("message", (event) => {
    const message = event.data;
    if (!origins.includes(event.origin) || !message || message.type !== "replyrate-token") return;
    if (typeof message.token !== "string") return;
    token = message.token;
    platform = event.origin;
    show(shown);
  });
  // The height of the content: the document itself is never lower than the frame.
  new ResizeObserver(() => tell({ type: "replyrate-height", height: document.body.offsetHeight })).observe(document.body);
  if (token) show(shown);
  else tell({ type: "replyrate-ready" });
})();
