// The panel within a frame of the platform. The token is in the memory of this script alone: it comes in the fragment of the address,
// which reaches no server and is removed at once, or in a message from a registered origin. No cookie is sent or set.
//
// From the platform: {type: "replyrate-token", token}. To the platform, without any figure: {type: "replyrate-ready"},
// {type: "replyrate-token-needed"}, {type: "replyrate-height", height}. Only registered origins can frame the page at all.
(() => {
  "use strict";
  const origins = document.body.dataset.origins.split(" ").filter(Boolean);
  const fragment = new URLSearchParams(location.hash.slice(1));
  let token = fragment.get("token") || "";
  let language = new URLSearchParams(location.search).get("lang") || "";
  let shown = "/panel";
  history.replaceState({ address: shown }, "", location.pathname + location.search);

  const tell = (message) => window.parent.postMessage(message, "*");

  const request = (address) => {
    const url = new URL(address, location.origin);
    language = url.searchParams.get("lang") || language;
    if (language) url.searchParams.set("lang", language);
    return fetch(url, { headers: { Authorization: `Bearer ${token}` }, credentials: "omit", cache: "no-store" });
  };

  const show = async (address) => {
    const response = await request(address);
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    shown = address;
    document.documentElement.lang = page.documentElement.lang;
    document.title = page.title;
    document.body.replaceChildren(...page.body.children);
    const target = new URL(address, location.origin).hash.slice(1);
    const place = (target && document.getElementById(target)) || document.getElementById("content");
    if (place) place.scrollIntoView();
    tell({ type: "replyrate-height", height: document.documentElement.scrollHeight });
    if (response.status === 401) tell({ type: "replyrate-token-needed" });
  };

  const go = (address) => {
    history.pushState({ address }, "");
    return show(address);
  };

  const save = async (address) => {
    const response = await request(address);
    const name = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition") || "");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await response.blob());
    link.download = name ? name[1] : "figures";
    link.click();
    URL.revokeObjectURL(link.href);
  };

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href]");
    if (!link || link.getAttribute("href").startsWith("#") || link.protocol === "blob:") return;
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
  window.addEventListener("popstate", (event) => show(event.state ? event.state.address : "/panel"));
  window.addEventListener("message", (event) => {
    const message = event.data;
    if (!origins.includes(event.origin) || !message || message.type !== "replyrate-token") return;
    if (typeof message.token !== "string") return;
    token = message.token;
    show(shown);
  });
  if (token) show(shown);
  else tell({ type: "replyrate-ready" });
})();
