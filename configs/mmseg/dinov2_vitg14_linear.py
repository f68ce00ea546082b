_base_ = "_base_/linear_ade20k.py"
model = dict(
    backbone=dict(backbone="dinov2_vitg14", blocks=[36, 37, 38, 39]),
    decode_head=dict(in_channels=[1536], channels=1536),
)
