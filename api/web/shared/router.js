// The rooms and their addresses: #/create, #/concepts, #/gallery.

import { store } from "./store.js";

export const ROOMS = { create: "Create", concepts: "Concepts", gallery: "Gallery" };

/** Follow the address; an unknown one leads to Create. */
export function startRouter() {
  const read = () => {
    const [, name] = /^#\/(\w+)/.exec(location.hash) ?? [];
    store.room.value = name && name in ROOMS ? name : "create";
    document.title = `${ROOMS[store.room.value]} · Perfusion`;
  };
  addEventListener("hashchange", read);
  read();
}

export const addressOf = (room) => `#/${room}`;

/** Go to a room. */
export function go(room) {
  if (store.room.value !== room) location.hash = addressOf(room);
  // The hash changes later; who asked wants to see the room at once.
  store.room.value = room;
}
