// The browser half of the page that the SDK's shapes are modelled on, as it stands there but for the package's name.
/* eslint-disable @typescript-eslint/no-unused-vars -- it names what it does not use */
import { jetbucket } from "jetbucket/browser";
jetbucket.configure({ serverUrl: "http://localhost:9123" });
const bucket = jetbucket.kv().bucket("settings");
const entry = await bucket.get("theme");
// Real-time watch over WebSocket
const watcher = bucket.watch(
  {
    onUpdate: (event) => console.log(event.key, event.value),
    onError: (err) => console.error(err),
    onClose: () => console.log("watch closed"),
  },
  { key: "theme" }, // optional filter
);
// Later
watcher.stop();
