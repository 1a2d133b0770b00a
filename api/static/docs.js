/** RapiDoc 9.3.8 shows a media type's `examples` but not its `example`, and does not know our `x-example` of streams. */
function nameExample(media) {
  const value = media.example ?? media["x-example"];
  if (value === undefined) return;
  delete media.example;
  media.examples = { Example: { value } };
}

function nameExamples(spec) {
  const operations = Object.values(spec.paths).flatMap(Object.values);
  for (const { requestBody = {}, responses } of operations) {
    for (const { content = {} } of [requestBody, ...Object.values(responses)]) Object.values(content).forEach(nameExample);
  }
}

const reference = document.querySelector("rapi-doc");
reference.addEventListener("before-render", ({ detail }) => nameExamples(detail.spec));
// RapiDoc hides its list of routes on narrow screens; there, all routes are shown below each other.
if (window.matchMedia("(width < 768px)").matches) reference.setAttribute("render-style", "view");
