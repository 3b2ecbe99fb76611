// How the search ranks the pages: by the words of the question in one of their headings, and pages that answer questions
// before pages of one loss each, of the API and of tables.
const headingsOf = {};

function wordsOf(text) {
  const stemmer = new Stemmer();
  const words = splitQuery(text.toLowerCase()).filter((word) => !stopwords.has(word));
  const stems = new Set(words.map((word) => stemmer.stemWord(word)));
  if (stems.size > 1) stems.delete("loss"); // every page is about losses
  return stems;
}

function headings(docname) {
  if (!Object.keys(headingsOf).length)
    for (const [title, places] of Object.entries(Search._index.alltitles))
      for (const [file] of places) (headingsOf[Search._index.docnames[file]] ??= []).push(wordsOf(title));
  return headingsOf[docname] ?? [];
}

function likeness(question, docname) {
  const scores = headings(docname).map((heading) => {
    const hits = [...question].filter((word) => heading.has(word)).length;
    return (hits / question.size) * (0.5 + (0.5 * hits) / heading.size);
  });
  return Math.max(0, ...scores.filter(Number.isFinite));
}

function rank(docname) {
  if (docname.startsWith("losses/")) return 0.4;
  if (/^(losses|api|contract|faults|performance|migrating|way_of_.*|.*versions)$/.test(docname)) return 0.6;
  return /^(index|command_line|yaml_reference)$/.test(docname) ? 0.8 : 1;
}

var Scorer = {
  objNameMatch: 11,
  objPartialMatch: 3,
  objPrio: { 0: 10, 1: 3, 2: -5 },
  objPrioDefault: 0,
  title: 10,
  partialTitle: 5,
  term: 5,
  partialTerm: 2,
  score: ([docname, title, anchor, descr, score]) => {
    const question = wordsOf(new URLSearchParams(window.location.search).get("q") ?? "");
    return (score + 40 * likeness(question, docname)) * rank(docname);
  },
};
