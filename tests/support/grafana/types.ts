// The types of a dashboard in JSON, with Prometheus queries. Grafana fills in the options that a panel omits.
import type { Dashboard, DataSourceRef, FieldConfig, FieldConfigSource, Panel, VariableModel } from '@grafana/schema';
import type * as heatmap from '@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen';
import type * as stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as timeline from '@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen';
import type * as table from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as timeseries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

// An enumeration is its text.
type Json<T> = T extends string ? `${T}`
  : T extends (infer Item)[] ? Json<Item>[]
  : T extends object ? { [Key in keyof T]: Json<T[Key]> }
  : T;
type DeepPartial<T> = T extends (infer Item)[] ? DeepPartial<Item>[]
  : T extends object ? { [Key in keyof T]?: DeepPartial<T[Key]> }
  : T;
type Query = {
  refId: string;
  expr: string;
  datasource: DataSourceRef;
  legendFormat?: string;
  format?: 'heatmap' | 'table' | 'time_series';
  instant?: boolean;
  range?: boolean;
};
type PanelOf<Type extends string, Options, Custom = Record<string, never>> =
  Omit<Panel, 'type' | 'targets' | 'options' | 'fieldConfig'> & {
    type: Type;
    targets: Query[];
    options: DeepPartial<Options>;
    fieldConfig: Omit<FieldConfigSource, 'defaults'> & {
      defaults: Omit<FieldConfig, 'custom'> & { custom?: DeepPartial<Custom> };
    };
  };
type Row = { type: 'row'; id: number; title: string; collapsed: boolean; gridPos: Panel['gridPos']; panels: [] };
export type JsonDashboard = Json<
  Omit<Dashboard, 'panels' | 'templating'> & {
    templating: { list: VariableModel[] };
    panels: (
      | Row
      | PanelOf<'heatmap', heatmap.Options, heatmap.FieldConfig>
      | PanelOf<'stat', stat.Options>
      | PanelOf<'state-timeline', timeline.Options, timeline.FieldConfig>
      | PanelOf<'table', table.Options, table.FieldConfig>
      | PanelOf<'timeseries', timeseries.Options, timeseries.FieldConfig>
    )[];
  }
>;
