// The page's example, as it stands there but for the import.
import { kv } from "jetbucket/attio";

export default async function getAllUsers() {
  const users = await kv.get("users");

  if (users !== null) {
    return users.value;
  }

  const response = await fetch("https://api.emailsequence.com/v1/users");
  const data = await response.json();
  await kv.set("users", data, { ttlInSeconds: 60 * 60 * 24 * 30 });
  return data;
}
