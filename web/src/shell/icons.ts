import Activity from "@lucide/svelte/icons/activity";
import Boxes from "@lucide/svelte/icons/boxes";
import ListTodo from "@lucide/svelte/icons/list-todo";
import MessageSquare from "@lucide/svelte/icons/message-square";
import Sprout from "@lucide/svelte/icons/sprout";
import type { Component } from "svelte";
import type { View } from "../router.svelte";

export const VIEW_ICONS: Record<View, Component<{ size?: number; strokeWidth?: number }>> = {
  chat: MessageSquare,
  jobs: ListTodo,
  models: Boxes,
  training: Sprout,
  system: Activity,
};
