// The server's pictures as blob URLs: an <img> cannot send the API key itself.

import { fileAt } from "../server/api.js";
import { html, useEffect, useRef, useState } from "./html.js";
import { store } from "./store.js";

// Above this many, those that were asked for first are fetched again when they are needed.
const MOST = 800;
/** @type {Map<string, Promise<{blob: Blob, url: string}>>} */
const fetched = new Map();

/** `{blob, url}` of an address whose picture never changes. */
export function pictureAt(address) {
  const present = fetched.get(address);
  if (present) return present;
  const pending = fileAt(address).then((blob) => ({ blob, url: URL.createObjectURL(blob) }));
  pending.catch(() => fetched.delete(address));
  fetched.set(address, pending);
  if (fetched.size > MOST) {
    const [[oldest, old]] = fetched;
    fetched.delete(oldest);
    old.then(({ url }) => setTimeout(() => URL.revokeObjectURL(url), 60_000)).catch(() => {});
  }
  return pending;
}

/** The blob URL of an address, null until it is there; and what went wrong. */
export function usePicture(address) {
  const [found, setFound] = useState({ address: null, url: null, error: "" });
  useEffect(() => {
    let wanted = true;
    if (address) {
      pictureAt(address).then(
        ({ url }) => wanted && setFound({ address, url, error: "" }),
        (error) => wanted && setFound({ address, url: null, error: error.message }),
      );
    }
    return () => {
      wanted = false;
    };
  }, [address, store.returns.value]);
  return found.address === address ? found : { url: null, error: "" };
}

/** A picture of the server; what else is given goes to the <img>. */
export function Picture({ address, alt = "", ...others }) {
  const { url, error } = usePicture(address);
  if (error) return html`<span class="unreadable" role="img" aria-label=${alt}>${error}</span>`;
  return html`<img ...${others} alt=${alt} src=${url ?? undefined} data-waiting=${url ? undefined : "yes"} />`;
}

/** A picture that is fetched once it comes near the screen. */
export function LazyPicture(properties) {
  const place = useRef(null);
  const [near, setNear] = useState(false);
  useEffect(() => {
    if (near) return undefined;
    const seen = new IntersectionObserver(
      (entries) => entries.some(({ isIntersecting }) => isIntersecting) && setNear(true),
      { rootMargin: "300px" },
    );
    seen.observe(place.current);
    return () => seen.disconnect();
  }, [near]);
  return near ? html`<${Picture} ...${properties} />` : html`<span class="later" ref=${place}></span>`;
}

/** The URL of a file of this computer, as long as it is shown. */
export function useFileUrl(file) {
  const [url, setUrl] = useState(/** @type {?string} */ (null));
  useEffect(() => {
    if (!file) return setUrl(null);
    const made = URL.createObjectURL(file);
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [file]);
  return url;
}
