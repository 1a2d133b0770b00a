import { fileURLToPath } from "node:url";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig, type HtmlTagDescriptor, type Plugin } from "vite";

const SERVER = process.env.SLM_URL ?? "http://127.0.0.1:5000"; // for `npm run dev`
const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

const BASE = "/static/app/";
const FIRST_VIEW = "Chat";

/** Let the browser load the view that is usually the first one together with the rest, and not after it has run. */
const preloadFirstView: Plugin = {
  name: "preload-first-view",
  transformIndexHtml: {
    order: "post",
    handler(html, { bundle = {} }) {
      const view = Object.values(bundle).find((file) => file.type === "chunk" && file.name === FIRST_VIEW);
      if (view?.type !== "chunk") return []; // of `npm run dev`
      const scripts = [view.fileName, ...view.imports].filter((file) => !html.includes(file));
      const styles = [...(view.viteMetadata?.importedCss ?? [])];
      return [
        ...scripts.map((file): HtmlTagDescriptor => ({ tag: "link", injectTo: "head", attrs: { rel: "modulepreload", fetchpriority: "low", crossorigin: true, href: BASE + file } })),
        ...styles.map((file): HtmlTagDescriptor => ({ tag: "link", injectTo: "head", attrs: { rel: "preload", as: "style", fetchpriority: "low", crossorigin: true, href: BASE + file } })),
      ];
    },
  },
};

export default defineConfig({
  plugins: [svelte(), preloadFirstView],
  base: BASE,
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
