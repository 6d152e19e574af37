// A program on the generated types, which must compile: the main job, and what must be an error.
import type { components, operations, paths } from "./api";

type Concept = components["schemas"]["Concept"];
type Job = components["schemas"]["Job"];
type Json<T> = T extends { content: { "application/json": infer Body } } ? Body : never;
type Form<T> = T extends { content: { "multipart/form-data": infer Body } } ? Body : never;

export const pictures: Form<operations["create_concept"]["requestBody"]> = {
  images: ["...", "..."],
  name: "rex",
  superclass: "robot",
  training: { max_train_steps: 80 },
};
export const asked: Json<operations["generate"]["requestBody"]> = {
  prompt: "a photo of <rex>",
  concepts: [{ name: "rex", strength: 0.8 }],
  num_images: 2,
};
export const accepted = (answer: Json<operations["create_concept"]["responses"][202]>): [Concept, Job] => [
  answer.concept,
  answer.job,
];
export const urls = (job: Job): string[] => job.images.map((image) => image.url);
export const reason = (job: Job): string => (job.status === "failed" && job.error ? job.error.detail : "");
export const filter: paths["/jobs"]["get"]["parameters"]["query"] = { status: "running", limit: 100 };

// @ts-expect-error: there is no such option
export const wrong: Json<operations["generate"]["requestBody"]> = { prompt: "a boat", colour: "red" };
// @ts-expect-error: there is no such status
export const never = (job: Job): boolean => job.status === "finished";
