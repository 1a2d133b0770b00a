import { fileURLToPath } from "node:url";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

const SERVER = process.env.SLM_URL ?? "http://127.0.0.1:5000"; // for `npm run dev`
const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  plugins: [svelte()],
  base: "/static/app/",
  resolve: { alias: { "slm-client": here("../clients/typescript/src/index.ts") } },
  build: {
    outDir: process.env.OUT_DIR ?? here("../api/static/app"),
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0, // the policy of the page allows no data URLs
  },
  server: {
    fs: { allow: [here("..")] },
    proxy: Object.fromEntries(["/slm", "/v1", "/metrics", "/docs", "/openapi.json", "/static/docs.js"].map((path) => [path, SERVER])),
  },
});
