"""Addresses of REST for experiments and rollouts."""

from django.urls import path

from experiments.api import slices, units, views
from experiments.api.actions import VERBS, action_view

APPLICATION = "applications/<slug:application>"
EXPERIMENT = f"{APPLICATION}/experiments/<slug:experiment>"
urlpatterns = [
    path(f"{APPLICATION}/units/forget", units.ForgetUnitView.as_view()),
    path(f"{APPLICATION}/experiments", views.ExperimentsView.as_view()),
    path(f"{APPLICATION}/rollouts", views.RolloutsView.as_view()),
    path(EXPERIMENT, views.ExperimentView.as_view()),
    *(path(f"{EXPERIMENT}/actions/{said.replace('_', '-')}", action_view(said).as_view()) for said in VERBS),
    path(f"{EXPERIMENT}/status", views.StatusView.as_view()),
    path(f"{EXPERIMENT}/explain", views.UnitView.as_view()),
    path(f"{EXPERIMENT}/results", views.ResultsView.as_view()),
    path(f"{EXPERIMENT}/detectable", views.DetectableView.as_view()),
    path(f"{EXPERIMENT}/changes", views.ChangesView.as_view()),
    path(f"{EXPERIMENT}/overrides", slices.OverridesView.as_view()),
    path(f"{EXPERIMENT}/overrides/<slug:unit_key>", slices.OverrideView.as_view()),
    path(f"{APPLICATION}/channels/<slug:channel>/models/<slug:model>/holdback", slices.HoldbackView.as_view()),
    path(f"{APPLICATION}/holdbacks", slices.HoldbacksView.as_view()),
    path(f"{APPLICATION}/layers", slices.LayersView.as_view()),
    path(f"{APPLICATION}/layers/<int:layer>/map", slices.LayerMapView.as_view()),
]
