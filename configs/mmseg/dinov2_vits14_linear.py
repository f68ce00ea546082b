_base_ = "_base_/linear_ade20k.py"
model = dict(
    backbone=dict(backbone="dinov2_vits14", blocks=[8, 9, 10, 11]), decode_head=dict(in_channels=[384], channels=384)
)
