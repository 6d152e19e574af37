// The section that is in view is marked in the bar.

import { byId } from "./dom.js";

/** Keep aria-current on the link of the section nearest to the top. */
export function startNavigation() {
  const links = new Map(
    [...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]),
  );
  const inView = new Set();
  const seen = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) inView.add(target.id);
        else inView.delete(target.id);
      }
      mark([...links.keys()].findLast((id) => inView.has(id)));
    },
    { rootMargin: "-30% 0px -60% 0px" },
  );
  for (const id of links.keys()) seen.observe(byId(id));

  function mark(id) {
    for (const [name, link] of links) {
      if (name === id) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }
}
